//! What was written since one last looked, by whatever server.
//!
//! Times and sequences say who began first, not who committed first. What was not to be seen then
//! and is now: transactions that had not begun then, and those that ran.

use sqlx::{Executor as _, FromRow, PgConnection};
use uuid::Uuid;

use super::Error;
use super::kept::Kept;
use super::sessions::version;
use crate::domain::{SessionId, Version};

/// Where one has looked up to: a snapshot of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedPosition {
    /// The first transaction that had not begun.
    next: String,
    /// Those that ran.
    running: Vec<String>,
}

/// Where the feed stands now.
///
/// # Errors
/// When the database fails.
pub async fn now(connection: &mut PgConnection) -> Result<FeedPosition, Error> {
    let row = sqlx::query!(
        r#"
        select pg_snapshot_xmax(snapshot)::text as "next!",
               array(select xid::text from pg_snapshot_xip(snapshot) as xid) as "running!"
        from pg_current_snapshot() as snapshot
        "#
    )
    .fetch_one(connection)
    .await?;
    Ok(FeedPosition { next: row.next, running: row.running })
}

/// A session that changed, if one did, and where the feed stands.
#[derive(FromRow)]
struct Row {
    #[sqlx(rename = "next!")]
    next: String,
    #[sqlx(rename = "running!")]
    running: Vec<String>,
    #[sqlx(rename = "session_id?")]
    session_id: Option<Uuid>,
    #[sqlx(rename = "version?")]
    version: Option<i64>,
}

/// The sessions that changed since, each with its last version, and where the feed stands then.
///
/// # Errors
/// When the database fails, or holds what cannot be.
pub async fn since(
    connection: &mut PgConnection,
    position: &FeedPosition,
) -> Result<(Vec<(SessionId, Version)>, FeedPosition), Error> {
    let statement = sqlx::query_as!(
        Row,
        r#"
        with seen as (
            select pg_snapshot_xmax(snapshot)::text as next,
                   array(select xid::text from pg_snapshot_xip(snapshot) as xid) as running
            from pg_current_snapshot() as snapshot
        ), event as (
            select session_id, version from session_event where xid >= $1::text::xid8
            union all
            select session_id, version from session_event
            where xid = any(($2::text[])::xid8[])
        ), changed as (
            select session_id, max(version) as version from event group by session_id
        )
        -- One row at least, so that the position is told where nothing changed.
        select seen.next as "next!", seen.running as "running!",
               changed.session_id as "session_id?", changed.version as "version?"
        from seen
        left join changed on true
        "#,
        position.next,
        &position.running,
    );
    let rows = connection.fetch_all(Kept(statement)).await?;
    let mut changed = Vec::with_capacity(rows.len());
    let mut seen = position.clone();
    for row in &rows {
        let row = Row::from_row(row)?;
        if let (Some(id), Some(number)) = (row.session_id, row.version) {
            changed.push((SessionId::new(id), version("session_event", number)?));
        }
        seen = FeedPosition { next: row.next, running: row.running };
    }
    Ok((changed, seen))
}
