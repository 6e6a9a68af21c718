//! The sessions that any server has changed since an earlier position.
//!
//! Times and sequences give the order in which transactions began, not the order in which they
//! committed. So an event is new if its transaction had not begun at the earlier position, or was
//! still running.

use sqlx::{Executor as _, FromRow, PgConnection};
use uuid::Uuid;

use super::Error;
use super::persistent::Persistent;
use super::sessions::version;
use crate::domain::{SessionId, Version};

/// A position in the feed: a snapshot of transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedPosition {
    /// The first transaction that had not begun.
    next_xid: String,
    /// The transactions that were running.
    running_xids: Vec<String>,
}

/// The current position of the feed.
///
/// # Errors
/// When the database fails.
pub async fn current(connection: &mut PgConnection) -> Result<FeedPosition, Error> {
    let row = sqlx::query!(
        r#"
        select pg_snapshot_xmax(snapshot)::text as "next_xid!",
               array(select xid::text from pg_snapshot_xip(snapshot) as xid) as "running_xids!"
        from pg_current_snapshot() as snapshot
        "#
    )
    .fetch_one(connection)
    .await?;
    Ok(FeedPosition { next_xid: row.next_xid, running_xids: row.running_xids })
}

/// The current position, and a changed session, if any.
#[derive(FromRow)]
struct FeedRow {
    #[sqlx(rename = "next_xid!")]
    next_xid: String,
    #[sqlx(rename = "running_xids!")]
    running_xids: Vec<String>,
    #[sqlx(rename = "session_id?")]
    session_id: Option<Uuid>,
    #[sqlx(rename = "version?")]
    version: Option<i64>,
}

/// The sessions that changed after `position`, each with its last version, and the new position.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn changes_since(
    connection: &mut PgConnection,
    position: &FeedPosition,
) -> Result<(Vec<(SessionId, Version)>, FeedPosition), Error> {
    let statement = sqlx::query_as!(
        FeedRow,
        r#"
        with current_position as (
            select pg_snapshot_xmax(snapshot)::text as next_xid,
                   array(select xid::text from pg_snapshot_xip(snapshot) as xid) as running_xids
            from pg_current_snapshot() as snapshot
        ), new_event as (
            select session_id, version from session_event where xid >= $1::text::xid8
            union all
            select session_id, version from session_event
            where xid = any(($2::text[])::xid8[])
        ), changed as (
            select session_id, max(version) as version from new_event group by session_id
        )
        -- The result has at least one row, so that the position is known if no session changed.
        select current_position.next_xid as "next_xid!",
               current_position.running_xids as "running_xids!",
               changed.session_id as "session_id?", changed.version as "version?"
        from current_position
        left join changed on true
        "#,
        position.next_xid,
        &position.running_xids,
    );
    let rows = connection.fetch_all(Persistent(statement)).await?;
    let mut changed = Vec::with_capacity(rows.len());
    let mut latest = position.clone();
    for row in &rows {
        let row = FeedRow::from_row(row)?;
        if let (Some(id), Some(number)) = (row.session_id, row.version) {
            changed.push((SessionId::new(id), version("session_event", number)?));
        }
        latest = FeedPosition { next_xid: row.next_xid, running_xids: row.running_xids };
    }
    Ok((changed, latest))
}

/// Whether an event was written by a transaction that this PostgreSQL has not begun. The database is
/// then a copy of another one: transaction ids have no meaning in another PostgreSQL. Such an event
/// would be new in every poll, and the list would wait for its transaction. A visible event of this
/// PostgreSQL is always older than the snapshot, so a running transaction is no such case.
///
/// # Errors
/// When the database fails.
pub async fn has_future_events(connection: &mut PgConnection) -> Result<bool, Error> {
    // A database that is being restored may be older than the column.
    let has_column: bool = sqlx::query_scalar(
        "select exists (
             select from pg_attribute
             where attrelid = to_regclass('session_event') and attname = 'xid'
               and not attisdropped
         )",
    )
    .fetch_one(&mut *connection)
    .await?;
    if !has_column {
        return Ok(false);
    }
    Ok(sqlx::query_scalar(
        "select exists (
             select from session_event where xid >= pg_snapshot_xmax(pg_current_snapshot())
         )",
    )
    .fetch_one(connection)
    .await?)
}

/// Gives all events the id of one transaction of this PostgreSQL, if any of them is in its future.
/// Returns whether it was necessary. The statement rewrites the table, so it leaves no dead rows,
/// and locks it meanwhile.
///
/// # Errors
/// When the database fails.
pub async fn renumber_future_events(connection: &mut PgConnection) -> Result<bool, Error> {
    let is_ahead = has_future_events(connection).await?;
    if is_ahead {
        connection
            .execute(
                "alter table session_event
                     alter column xid type xid8 using pg_current_xact_id()",
            )
            .await?;
    }
    Ok(is_ahead)
}
