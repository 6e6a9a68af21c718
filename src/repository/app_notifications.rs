//! How servers learn that apps or keys have changed, and how a command learns that all servers
//! know.
//!
//! Triggers in the database notify every server. A command that must not return before its change
//! is in force everywhere sends one more notification, with a note; every server reads the apps
//! again and then repeats the note on a second channel. The command counts the servers by the names
//! of their connections. A note may name a master key: only a server that has this key repeats the
//! note.

use std::time::Duration;

use sqlx::postgres::{PgExecutor, PgListener, PgPoolOptions};
use tokio::time::Instant;

use super::Error;
use crate::repository::Pool;
use crate::wire::MasterKeyId;

/// The channel of the triggers.
const CHANGE_CHANNEL: &str = "muster_apps";
/// The channel on which servers repeat notes.
const ACK_CHANNEL: &str = "muster_apps_heard";
/// The name of each server's connection that listens.
const LISTENER_NAME: &str = "muster follower";

/// A connection that listens for changes.
pub struct AppListener(DedicatedListener);

impl AppListener {
    /// Begins to listen. Earlier changes are not reported.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn listen(pool: &Pool) -> Result<Self, Error> {
        Ok(Self(open_listener(pool, LISTENER_NAME, CHANGE_CHANNEL).await?))
    }

    /// Waits for a notification, and returns its note, if it has one. The caller must read
    /// everything again: the connection may have been lost meanwhile, and changes with it.
    ///
    /// # Errors
    /// When the connection is lost and cannot be made again.
    pub async fn recv(&mut self) -> Result<Option<AckToken>, Error> {
        let notification = self.0.listener.try_recv().await?;
        let token = notification.map(|notification| notification.payload().to_owned());
        Ok(token.filter(|token| !token.is_empty()).map(AckToken))
    }
}

/// A token that a command wants every server to repeat.
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

    /// The master key that a server must have to repeat the note.
    #[must_use]
    pub fn master_key(&self) -> Option<MasterKeyId> {
        self.0.split_once('/').and_then(|(_, id)| MasterKeyId::parse(id))
    }
}

/// How many servers listen for changes of this database.
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

/// Repeats a note. The caller has read everything that was committed before the note came.
///
/// # Errors
/// When the database fails.
pub async fn acknowledge(pool: &Pool, token: &AckToken) -> Result<(), Error> {
    notify(pool, ACK_CHANNEL, &token.0).await
}

/// Waits until every server has read what is committed now, and has `master_key` if one is named.
/// Returns how many servers did not confirm it in time.
///
/// # Errors
/// When the database fails.
pub async fn wait_for_acks(
    pool: &Pool,
    timeout: Duration,
    master_key: Option<MasterKeyId>,
) -> Result<u64, Error> {
    let deadline = Instant::now() + timeout;
    let mut listening = open_listener(pool, "muster", ACK_CHANNEL).await?;
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

/// A connection outside of the pool, which may be small.
struct DedicatedListener {
    own: sqlx::PgPool,
    listener: PgListener,
}

impl Drop for DedicatedListener {
    /// Marks the pool as closed, so that the returned connection is not tested. If PostgreSQL stops
    /// at the same time, the test would report a failure.
    fn drop(&mut self) {
        drop(self.own.close());
    }
}

async fn open_listener(pool: &Pool, name: &str, channel: &str) -> Result<DedicatedListener, Error> {
    let options = pool.connect_options().as_ref().clone().application_name(name);
    let own = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&own).await?;
    listener.listen(channel).await?;
    Ok(DedicatedListener { own, listener })
}

async fn notify(pool: &Pool, channel: &str, payload: &str) -> Result<(), Error> {
    sqlx::query!("select pg_notify($1, $2)", channel, payload).execute(pool).await?;
    Ok(())
}
