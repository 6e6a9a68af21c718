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
use crate::repository::PgPool;
use crate::wire::MasterKeyId;

/// The channel of the triggers.
const CHANGED: &str = "muster_apps";
/// The channel on which servers repeat notes.
const HEARD: &str = "muster_apps_heard";
/// The name of each server's connection that listens.
const FOLLOWER: &str = "muster follower";

/// A connection that listens for changes.
pub struct Changes(Listening);

impl Changes {
    /// Begins to listen. Earlier changes are not reported.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn follow(pool: &PgPool) -> Result<Self, Error> {
        Ok(Self(listen(pool, FOLLOWER, CHANGED).await?))
    }

    /// Waits for a notification, and returns its note, if it has one. The caller must read
    /// everything again: the connection may have been lost meanwhile, and changes with it.
    ///
    /// # Errors
    /// When the connection is lost and cannot be made again.
    pub async fn next(&mut self) -> Result<Option<Note>, Error> {
        let notification = self.0.listener.try_recv().await?;
        let note = notification.map(|notification| notification.payload().to_owned());
        Ok(note.filter(|note| !note.is_empty()).map(Note))
    }
}

/// A token that a command wants every server to repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note(String);

impl Note {
    fn new(master_key: Option<MasterKeyId>) -> Self {
        let chance = rand::random::<u128>();
        Self(match master_key {
            Some(id) => format!("{chance:032x}/{id}"),
            None => format!("{chance:032x}"),
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
pub async fn servers(executor: impl PgExecutor<'_>) -> Result<u64, Error> {
    let servers = sqlx::query_scalar!(
        r#"
        select count(*) as "count!" from pg_stat_activity
        where datname = current_database() and application_name = $1
        "#,
        FOLLOWER
    )
    .fetch_one(executor)
    .await?;
    Ok(u64::try_from(servers).unwrap_or_default())
}

/// Repeats a note. The caller has read everything that was committed before the note came.
///
/// # Errors
/// When the database fails.
pub async fn repeat(pool: &PgPool, note: &Note) -> Result<(), Error> {
    notify(pool, HEARD, &note.0).await
}

/// Waits until every server has read what is committed now, and has `master_key` if one is named.
/// Returns how many servers did not confirm it in time.
///
/// # Errors
/// When the database fails.
pub async fn heard_by_all(
    pool: &PgPool,
    within: Duration,
    master_key: Option<MasterKeyId>,
) -> Result<u64, Error> {
    let until = Instant::now() + within;
    let mut listening = listen(pool, "muster", HEARD).await?;
    let mut missing = servers(pool).await?;
    let note = Note::new(master_key);
    notify(pool, CHANGED, &note.0).await?;
    while missing > 0 {
        let Ok(notification) = tokio::time::timeout_at(until, listening.listener.recv()).await
        else {
            break;
        };
        if notification?.payload() == note.0 {
            missing -= 1;
        }
    }
    Ok(missing)
}

/// A connection outside of the pool, which may be small.
struct Listening {
    own: sqlx::PgPool,
    listener: PgListener,
}

impl Drop for Listening {
    /// Marks the pool as closed, so that the returned connection is not tested. If PostgreSQL stops
    /// at the same time, the test would report a failure.
    fn drop(&mut self) {
        drop(self.own.close());
    }
}

async fn listen(pool: &PgPool, name: &str, channel: &str) -> Result<Listening, Error> {
    let options = pool.connect_options().as_ref().clone().application_name(name);
    let own = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&own).await?;
    listener.listen(channel).await?;
    Ok(Listening { own, listener })
}

async fn notify(pool: &PgPool, channel: &str, note: &str) -> Result<(), Error> {
    sqlx::query!("select pg_notify($1, $2)", channel, note).execute(pool).await?;
    Ok(())
}
