//! Notifications about changed apps or keys, and the acknowledgments of the servers.
//!
//! Triggers in the database notify every server. A command that must not return before all servers
//! know its change sends one more notification, with a token. Every server reads the apps again and
//! then repeats the token on a second channel. The command counts the servers by the names of their
//! connections. A token may name a master key: only a server that has this key repeats the token.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sqlx::postgres::{PgExecutor, PgListener, PgPoolOptions};
use tokio::time::Instant;

use super::Error;
use crate::repository::Pool;
use crate::wire::MasterKeyId;

/// The channel of the triggers.
const CHANGE_CHANNEL: &str = "muster_apps";
/// The channel on which servers repeat tokens.
const ACK_CHANNEL: &str = "muster_apps_heard";
/// The name of the connection on which a server listens.
const LISTENER_NAME: &str = "muster listener";

/// The time limit to open a connection that listens. A silent server would take for ever.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);

/// The interval of reads while notifications arrive. One may be lost with its connection.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5);
/// The interval of reads without notifications. A change is in force on each server within a second.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// The time after which each server has a change that it finds by polling.
const POLLED_AFTER: Duration = Duration::from_secs(1);

/// A connection that listens for changes, or the interval at which they are polled: a connection
/// through a pooler gets no notifications.
pub struct AppListener {
    listening: Option<DedicatedListener>,
    /// Completes when the server of the connection must not be used any more.
    generation_end: BoxFuture<'static, ()>,
}

impl AppListener {
    /// Starts to listen. Earlier changes are not reported.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn listen(pool: &Pool) -> Result<Self, Error> {
        let generation_end = pool.connector().generation_end().boxed();
        let listening = match open_listener(pool, LISTENER_NAME, CHANGE_CHANNEL).await {
            Err(Error::NoSession) => None,
            listening => Some(listening?),
        };
        Ok(Self { listening, generation_end })
    }

    /// The interval at which the caller reads all apps and keys also without a notification.
    #[must_use]
    pub fn refresh_interval(&self) -> Duration {
        if self.listening.is_some() { REFRESH_INTERVAL } else { POLL_INTERVAL }
    }

    /// Waits for a notification, and returns its token, if any. The caller must then read all apps
    /// and keys again: the connection, and notifications with it, may have been lost meanwhile.
    ///
    /// # Errors
    /// When the connection is lost and cannot be restored, or another server of the database is
    /// used.
    pub async fn recv(&mut self) -> Result<Option<AckToken>, Error> {
        let Some(listening) = &mut self.listening else { return std::future::pending().await };
        let notification = tokio::select! {
            notification = listening.listener.try_recv() => notification?,
            () = &mut self.generation_end => return Err(Error::Unavailable(sqlx::Error::PoolClosed)),
        };
        let token = notification.map(|notification| notification.payload().to_owned());
        Ok(token.filter(|token| !token.is_empty()).map(AckToken))
    }
}

/// A token that every server repeats for a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AckToken(String);

impl AckToken {
    fn generate(master_key: Option<MasterKeyId>) -> Self {
        let nonce = rand::random::<u128>();
        Self(match master_key {
            Some(id) => format!("{nonce:032x}/{id}"),
            None => format!("{nonce:032x}"),
        })
    }

    /// The master key that a server must have before it repeats the token.
    #[must_use]
    pub fn master_key(&self) -> Option<MasterKeyId> {
        self.0.split_once('/').and_then(|(_, id)| MasterKeyId::parse(id))
    }
}

/// The number of servers that listen for changes of this database.
///
/// # Errors
/// When the database fails.
pub async fn count_servers(executor: impl PgExecutor<'_>) -> Result<u64, Error> {
    let servers = sqlx::query_scalar!(
        r#"
        select count(*) as "count!" from pg_stat_activity
        where datname = current_database() and application_name = $1
        "#,
        LISTENER_NAME
    )
    .fetch_one(executor)
    .await?;
    Ok(u64::try_from(servers).unwrap_or_default())
}

/// Repeats a token. The caller has read all changes that were committed before the token arrived.
///
/// # Errors
/// When the database fails.
pub async fn acknowledge(pool: &Pool, token: &AckToken) -> Result<(), Error> {
    notify(pool, ACK_CHANNEL, &token.0).await
}

/// Waits until every server has read all committed changes, and has `master_key` if it is given.
/// Returns the number of servers that did not confirm this in time. Without a session of PostgreSQL no
/// server is asked: the wait is as long as servers take that poll.
///
/// # Errors
/// When the database fails.
pub async fn wait_for_acks(
    pool: &Pool,
    timeout: Duration,
    master_key: Option<MasterKeyId>,
) -> Result<u64, Error> {
    let deadline = Instant::now() + timeout;
    let mut listening = match open_listener(pool, "muster", ACK_CHANNEL).await {
        Err(Error::NoSession) if master_key.is_none() => {
            tokio::time::sleep(POLLED_AFTER).await;
            return Ok(0);
        }
        listening => listening?,
    };
    let mut missing = count_servers(pool).await?;
    let token = AckToken::generate(master_key);
    notify(pool, CHANGE_CHANNEL, &token.0).await?;
    while missing > 0 {
        let Ok(notification) = tokio::time::timeout_at(deadline, listening.listener.recv()).await
        else {
            break;
        };
        if notification?.payload() == token.0 {
            missing -= 1;
        }
    }
    Ok(missing)
}

/// A connection outside of the pool, because the pool may be small.
struct DedicatedListener {
    own: sqlx::PgPool,
    listener: PgListener,
}

impl Drop for DedicatedListener {
    /// Marks the pool as closed, so that the returned connection is not tested. The test would
    /// report a failure if PostgreSQL stops at the same time.
    fn drop(&mut self) {
        drop(self.own.close());
    }
}

async fn open_listener(pool: &Pool, name: &str, channel: &str) -> Result<DedicatedListener, Error> {
    let options = pool.session_options().await?.as_ref().clone().application_name(name);
    let own = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(LISTEN_TIMEOUT)
        .connect_lazy_with(options);
    let opening = async {
        let mut listener = PgListener::connect_with(&own).await?;
        listener.listen(channel).await?;
        Ok::<_, Error>(listener)
    };
    let opened = tokio::time::timeout(LISTEN_TIMEOUT, opening).await;
    let listener = opened.unwrap_or_else(|_| Err(Error::acquire_timeout()))?;
    Ok(DedicatedListener { own, listener })
}

async fn notify(pool: &Pool, channel: &str, payload: &str) -> Result<(), Error> {
    sqlx::query!("select pg_notify($1, $2)", channel, payload).execute(pool).await?;
    Ok(())
}
