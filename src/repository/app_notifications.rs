//! How servers learn that apps or keys have changed, and how a command learns that they know.
//!
//! The database's triggers notify every server. A command that must not return before its change
//! holds everywhere asks once more, with a note, and every server that has read again repeats the
//! note on a second channel. Who follows is seen from the names of the connections. A note may name a
//! master key: only who has it repeats the note.

use std::time::Duration;

use sqlx::postgres::{PgExecutor, PgListener, PgPoolOptions};
use tokio::time::Instant;

use super::Error;
use crate::repository::PgPool;
use crate::wire::MasterKeyId;

/// Where the triggers notify.
const CHANGED: &str = "muster_apps";
/// Where servers repeat notes.
const HEARD: &str = "muster_apps_heard";
/// What the connections of followers are called.
const FOLLOWER: &str = "muster follower";

/// A connection that hears of changes.
pub struct Changes(Listening);

impl Changes {
    /// Begins to listen. What changed before is not told.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn follow(pool: &PgPool) -> Result<Self, Error> {
        Ok(Self(listen(pool, FOLLOWER, CHANGED).await?))
    }

    /// Waits for a change; gives the note of who wants to know that it was heard. Nothing may have
    /// changed, and much that was not told if the connection was lost meanwhile.
    ///
    /// # Errors
    /// When the connection is lost and cannot be had again.
    pub async fn next(&mut self) -> Result<Option<Note>, Error> {
        let notification = self.0.listener.try_recv().await?;
        let note = notification.map(|notification| notification.payload().to_owned());
        Ok(note.filter(|note| !note.is_empty()).map(Note))
    }
}

/// What somebody wants to see repeated.
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

    /// The master key that one must have to repeat it.
    #[must_use]
    pub fn master_key(&self) -> Option<MasterKeyId> {
        self.0.split_once('/').and_then(|(_, id)| MasterKeyId::parse(id))
    }
}

/// How many servers follow the changes of this database.
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

/// Repeats a note, after everything that was committed before it came has been read.
///
/// # Errors
/// When the database fails.
pub async fn repeat(pool: &PgPool, note: &Note) -> Result<(), Error> {
    notify(pool, HEARD, &note.0).await
}

/// Waits until every server knows what was committed before, and has this master key if one is
/// named. Gives how many did not say so.
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

/// A connection that is not one of the pool, which may be small.
struct Listening {
    own: sqlx::PgPool,
    listener: PgListener,
}

impl Drop for Listening {
    /// Marks the pool as closed, so that the connection that comes back is not tested: where
    /// PostgreSQL stops at the same time, that would be reported as a failure.
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
