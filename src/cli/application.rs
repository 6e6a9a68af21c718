//! The service, put together: what `serve` runs, and what tests run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::PgPool;

use crate::clock::Clock;
use crate::config::{RemoveMembers, Settings};
use crate::domain::{RemovePolicy, Rules};
use crate::http::{Bound, Options, Server, Services, Stopper};
use crate::service::{Access, Directory, Readiness, Sessions, TokenRules};

/// How long a server that stops tries to note which keys were used.
const NOTED_WITHIN: Duration = Duration::from_secs(1);

/// A service that is bound to its address and ready to run.
pub struct Application {
    server: Server,
    stopper: Stopper,
    address: SocketAddr,
    directory: Arc<Directory>,
}

impl Application {
    /// Puts the service together on a database whose tables are current.
    ///
    /// # Errors
    /// When the database fails, or the system refuses the socket.
    pub async fn build(
        settings: &Settings,
        bound: Bound,
        pool: PgPool,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let address = bound.address()?;
        let directory = Directory::open(pool.clone(), clock.clone()).await;
        let directory = Arc::new(directory.context("cannot read the apps")?);
        let tokens = TokenRules {
            expire_in: settings.token.expire_in,
            max_clock_skew: settings.token.max_clock_skew,
        };
        let rules = Rules {
            min_members: settings.limits.min_members,
            max_members: settings.limits.max_members,
            remove_members: match settings.policy.remove_members {
                RemoveMembers::Owner => RemovePolicy::Owner,
                RemoveMembers::Member => RemovePolicy::Member,
            },
        };
        let services = Services {
            access: Arc::new(Access::new(directory.clone(), tokens, clock.clone())),
            sessions: Arc::new(Sessions::new(pool.clone(), rules, clock)),
            readiness: Arc::new(Readiness::new(pool)),
        };
        let options = Options {
            workers: settings.server.workers,
            max_body: settings.limits.max_body,
            body_timeout: settings.server.body_timeout,
            shutdown_timeout: settings.server.shutdown_timeout,
        };
        let (server, stopper) = bound.serve(services, options)?;
        Ok(Self { server, stopper, address, directory })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What stops it.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Serves until it is stopped.
    ///
    /// # Errors
    /// When the server fails.
    pub async fn run(self) -> anyhow::Result<()> {
        let following = self.directory.clone();
        let following = tokio::spawn(async move { following.follow().await });
        let served = self.server.run().await;
        following.abort();
        // A database that does not answer must not hold up the end.
        let _ = tokio::time::timeout(NOTED_WITHIN, self.directory.note_use()).await;
        Ok(served?)
    }
}
