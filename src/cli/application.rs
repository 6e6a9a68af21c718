//! The service as one value: `serve` and the tests build and run it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::callbacks::worker;
use super::certificate::Certificate;
use super::crypto::use_ring;
use super::database::pool_limits;
use super::listeners::Doors;
use super::shutdown_signal::Stopper;
use crate::clock::Clock;
use crate::config::{RemoveMembers, Settings};
use crate::delivery::Worker;
use crate::domain::{RemovePolicy, Rules};
use crate::http::{
    self, AuthOptions, MetricsListener, MetricsServer, Options, RequestAuth, Server, Services,
    ShutdownHandle,
};
use crate::keyring::Keyring;
use crate::metrics::Metrics;
use crate::repository::Pool;
use crate::repository::app_notifications::AppListener;
use crate::service::{
    AppDirectory, AuditRetention, Authenticator, CacheOptions, ChangeNotifier, MetricsInputs,
    MetricsSource, Readiness, SessionOptions, Sessions, TokenOptions,
};
use crate::telemetry::Traces;

/// The time limit for each of the last steps of a stop: traces, the last use of keys, the pool.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A service that listens on its address and is ready to run.
pub struct Application {
    server: Server,
    ending: ShutdownHandle,
    stopper: Stopper,
    pool: Pool,
    address: SocketAddr,
    metrics_address: Option<SocketAddr>,
    metrics: Option<MetricsServer>,
    directory: Arc<AppDirectory>,
    changes: AppListener,
    sessions: Sessions,
    worker: Option<Worker>,
    changed: Arc<ChangeNotifier>,
    retention: AuditRetention,
    certificate: Option<Certificate>,
    counted: Arc<Metrics>,
    /// The interval between two looks at the files of the certificate.
    tls_reload_interval: Duration,
    clock: Clock,
    traces: Traces,
    patience: Duration,
}

impl Application {
    /// Builds the service on a database whose schema is current. `stopper` stops it later.
    ///
    /// # Errors
    /// The database fails, or the system refuses the socket.
    pub async fn build(
        settings: &Settings,
        doors: Doors,
        pool: Pool,
        keyring: Arc<Keyring>,
        clock: Clock,
        stopper: Stopper,
    ) -> anyhow::Result<Self> {
        let Doors { bound, metrics: metrics_bound, certificate } = doors;
        let address = bound.address()?;
        let counted = Arc::new(Metrics::default());
        let metrics = &counted;
        // Before the apps are read, so that no change between the two is missed.
        let changes =
            AppListener::listen(&pool).await.context("cannot listen for changes of apps")?;
        use_ring();
        let traces = Traces::open(&settings.tracing)?;
        let directory = AppDirectory::open(pool.clone(), keyring, clock.clone()).await;
        let directory = Arc::new(directory.context("cannot read the apps")?);
        let tokens = TokenOptions {
            expire_in: settings.token.expire_in,
            max_clock_skew: settings.token.max_clock_skew,
        };
        let services = Services {
            authenticator: Authenticator::new(directory.clone(), tokens, clock.clone()),
            sessions: Sessions::new(
                pool.clone(),
                clock.clone(),
                session_options(settings),
                metrics.clone(),
            ),
            auth: Arc::new(RequestAuth::new(gate_options(settings), clock.clone())),
            readiness: Arc::new(Readiness::new(pool.clone())),
            metrics: metrics.clone(),
            traces: traces.clone(),
        };
        let (sessions, readiness) = (services.sessions.clone(), services.readiness.clone());
        let changed = sessions.changed();
        let retention = AuditRetention {
            pool: pool.clone(),
            clock: clock.clone(),
            max_age: settings.audit.retention,
        };
        let worker = match settings.delivery.enabled {
            true => {
                let (pool, directory) = (pool.clone(), directory.clone());
                let (clock, metrics) = (clock.clone(), metrics.clone());
                let worker = worker(settings, pool, directory, clock, metrics)?;
                Some(worker.with_traces(traces.clone()))
            }
            false => None,
        };
        let options = Options {
            workers: settings.server.workers,
            max_body_bytes: settings.limits.max_body_bytes,
            max_uri_bytes: settings.limits.max_uri_bytes,
            max_header_bytes: settings.limits.max_header_bytes,
            max_headers: settings.limits.max_headers,
            max_connections: settings.server.max_connections,
            header_timeout: settings.server.header_timeout,
            body_timeout: settings.server.body_timeout,
            write_timeout: settings.server.write_timeout,
            keep_alive_timeout: settings.server.keep_alive_timeout,
            request_timeout: settings.server.request_timeout,
            shutdown_timeout: settings.server.shutdown_timeout,
        };
        let tls = certificate.as_ref().map(Certificate::tls);
        let (server, ending) = http::serve(bound, services, options, tls)?;
        let observatory = Arc::new(MetricsSource::new(MetricsInputs {
            metrics: counted.clone(),
            pool: pool.clone(),
            sessions: sessions.clone(),
            readiness,
            clock: clock.clone(),
            data_dir: settings.data_dir.clone(),
            running: ending.running(),
        }));
        let metrics_address = metrics_bound.as_ref().map(MetricsListener::address).transpose()?;
        let metrics = metrics_bound.map(|bound| bound.serve(observatory, options)).transpose()?;
        let patience = settings.server.shutdown_timeout;
        Ok(Self {
            server,
            ending,
            stopper,
            pool,
            address,
            metrics_address,
            metrics,
            directory,
            changes,
            sessions,
            worker,
            changed,
            retention,
            certificate,
            counted,
            tls_reload_interval: settings.server.tls_reload_interval,
            clock,
            traces,
            patience,
        })
    }

    /// The address of the API.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the metrics, if they are served.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// Serves until the stopper stops it, and closes the database's pool.
    ///
    /// # Errors
    /// The server fails.
    pub async fn run(self) -> anyhow::Result<()> {
        let Self { server, ending, directory, changes, sessions, worker, changed, .. } = self;
        let Self { patience, pool, stopper, metrics, retention, traces, .. } = self;
        let Self { certificate, counted, tls_reload_interval, clock, .. } = self;
        let telling = metrics.map(|server| (server.shutdown_handle(), tokio::spawn(server.run())));
        let following = directory.clone();
        let following = tokio::spawn(async move { following.run(changes).await });
        let forgetting = tokio::spawn({
            let sessions = sessions.clone();
            async move { sessions.run_pruner().await }
        });
        let tidying = tokio::spawn(retention.run());
        let following_sessions = tokio::spawn(async move { sessions.run_invalidation().await });
        let following_files = tokio::spawn(async move {
            match certificate {
                Some(certificate) => certificate.follow(tls_reload_interval, clock, counted).await,
                None => std::future::pending().await,
            }
        });
        let (rest, resting) = oneshot::channel::<()>();
        let working = worker.map(|worker| {
            let resting = async move { drop(resting.await) };
            tokio::spawn(worker.run(changed, resting))
        });
        let mut serving = tokio::spawn(server.run());
        tokio::select! {
            served = &mut serving => return Ok(served??),
            () = stopper.wanted() => {}
        }

        drop(rest);
        let until = Instant::now() + patience;
        if !stopper.unless_hurried(patience, ending.drain()).await {
            tracing::warn!("stopping with requests still running");
        }
        let patience = until.saturating_duration_since(Instant::now());
        if let Some(mut working) = working
            && !stopper.unless_hurried(patience, async { drop((&mut working).await) }).await
        {
            // The next server sends them again when their leases end.
            tracing::warn!("stopping with callbacks still in flight");
            working.abort();
        }
        following.abort();
        forgetting.abort();
        tidying.abort();
        following_sessions.abort();
        following_files.abort();
        let _ = tokio::join!(following, forgetting, tidying, following_sessions);
        if let Some((ending, telling)) = telling {
            stopper.unless_hurried(LAST_WORDS, ending.stop()).await;
            telling.abort();
        }
        stopper.unless_hurried(LAST_WORDS, traces.end(LAST_WORDS)).await;
        // The pool is closed before the server's threads end, because connections that they opened
        // end with them. The time limit keeps a silent database from delaying the stop.
        stopper.unless_hurried(LAST_WORDS, directory.flush_key_usage()).await;
        stopper.unless_hurried(LAST_WORDS, pool.close()).await;
        ending.stop().await;
        Ok(serving.await??)
    }
}

fn gate_options(Settings { server, limits, .. }: &Settings) -> AuthOptions {
    AuthOptions {
        max_failed_attempts: limits.max_failed_attempts,
        requests_per_second: limits.requests_per_second,
        burst: limits.burst,
        trusted_proxies: server.trusted_proxies.clone(),
    }
}

/// The options of the session use cases, from the configuration.
#[must_use]
pub fn session_options(settings: &Settings) -> SessionOptions {
    let Settings { limits, database, cache, .. } = settings;
    SessionOptions {
        rules: Rules {
            min_members: limits.min_members,
            max_members: limits.max_members,
            remove_members: match settings.policy.remove_members {
                RemoveMembers::Owner => RemovePolicy::Owner,
                RemoveMembers::Member => RemovePolicy::Member,
            },
        },
        limits: pool_limits(settings),
        request_timeout: settings.server.request_timeout,
        max_queued: limits.max_queued,
        max_batch: database.max_batch,
        cache: CacheOptions {
            enabled: cache.enabled,
            max_bytes: cache.max_bytes,
            follow_interval: cache.follow_interval,
        },
    }
}
