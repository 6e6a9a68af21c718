//! The events of a session, version by version.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::types::Json;

use super::Error;
use super::error::corrupt;
use super::sessions::{StoredChanges, account, version};
use crate::domain::{Buin, Event, Reason, SessionId, Version};
use crate::repository::Pool;

/// The end of the requested part of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpTo {
    /// This version, or the last one if the history is shorter.
    Version(Version),
    /// The last version at or before this time.
    Time(DateTime<Utc>),
}

/// Selects a part of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryRange {
    /// The page begins after this version. Without it, the page begins at the start or the end.
    pub after: Option<Version>,
    /// Whether the newest events come first.
    pub newest_first: bool,
    /// The largest number of events in the page.
    pub limit: usize,
}

/// Reads the history of a session from its creation on, oldest first. The result is empty if the
/// enterprise has no such session, or if the session was created later.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn events_up_to(
    pool: &Pool,
    buin: Buin,
    id: SessionId,
    up_to: UpTo,
) -> Result<Vec<Event>, Error> {
    let (version, at) = match up_to {
        UpTo::Version(version) => (version.get(), None),
        UpTo::Time(at) => (i64::MAX, Some(at)),
    };
    let rows = sqlx::query_as!(
        EventRow,
        r#"
        select version, kind, operator, app_id, reason,
               changes as "changes: Json<StoredChanges<'static>>",
               attributes as "attributes: Json<Map<String, Value>>", created_at
        from session_event
        where session_id = $1 and buin = $2 and version <= $3
          and created_at <= coalesce($4::timestamptz, 'infinity')
        order by version
        "#,
        id.uuid(),
        buin.get(),
        version,
        at,
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(Event::try_from).collect()
}

/// Reads a page of the history of a session.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn events_page(
    pool: &Pool,
    buin: Buin,
    id: SessionId,
    page: HistoryRange,
) -> Result<Vec<Event>, Error> {
    let limit = i64::try_from(page.limit).unwrap_or(i64::MAX);
    let after = page.after.map(Version::get);
    let rows = match page.newest_first {
        false => {
            sqlx::query_as!(
                EventRow,
                r#"
                select version, kind, operator, app_id, reason,
                       changes as "changes: Json<StoredChanges<'static>>",
                       attributes as "attributes: Json<Map<String, Value>>", created_at
                from session_event
                where session_id = $1 and buin = $2 and version > $3
                order by version
                limit $4
                "#,
                id.uuid(),
                buin.get(),
                after.unwrap_or(0),
                limit,
            )
            .fetch_all(pool)
            .await?
        }
        true => {
            sqlx::query_as!(
                EventRow,
                r#"
                select version, kind, operator, app_id, reason,
                       changes as "changes: Json<StoredChanges<'static>>",
                       attributes as "attributes: Json<Map<String, Value>>", created_at
                from session_event
                where session_id = $1 and buin = $2 and version < $3
                order by version desc
                limit $4
                "#,
                id.uuid(),
                buin.get(),
                after.unwrap_or(i64::MAX),
                limit,
            )
            .fetch_all(pool)
            .await?
        }
    };
    rows.into_iter().map(Event::try_from).collect()
}

struct EventRow {
    version: i64,
    kind: String,
    operator: String,
    app_id: String,
    reason: Option<String>,
    changes: Json<StoredChanges<'static>>,
    attributes: Option<Json<Map<String, Value>>>,
    created_at: DateTime<Utc>,
}

impl TryFrom<EventRow> for Event {
    type Error = Error;

    fn try_from(row: EventRow) -> Result<Self, Error> {
        let reason = row.reason.as_deref().map(|text| {
            Reason::new(text).map_err(|error| corrupt("session_event", "reason", text)(error))
        });
        Ok(Self {
            version: version("session_event", row.version)?,
            kind: row.kind.parse().map_err(corrupt("session_event", "kind", &row.kind))?,
            operator: account("session_event", "operator", &row.operator)?,
            app_id: row.app_id.parse().map_err(corrupt("session_event", "app_id", &row.app_id))?,
            reason: reason.transpose()?,
            changes: row.changes.0.into_changes(row.attributes.map(|patch| patch.0))?,
            at: row.created_at,
        })
    }
}
