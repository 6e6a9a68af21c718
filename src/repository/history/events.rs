//! The events of a session, version by version.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::types::Json;
use sqlx::{Executor as _, FromRow};

use super::stored_event::{StoredContent, StoredEvent};
use crate::domain::{Buin, Event, SessionId, Version};
use crate::repository::connections::persistent::Persistent;
use crate::repository::sessions::StoredChanges;
use crate::repository::{Error, Pool};

/// The end of the requested part of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpTo {
    /// The last version.
    End,
    /// This version, or the last one if the history is shorter.
    Version(Version),
    /// The last version at or before this time.
    Time(DateTime<Utc>),
}

/// Selects a part of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryRange {
    /// The part begins after this version. Without it, the part begins at the start or the end.
    pub after: Option<Version>,
    /// The end of an ascending part.
    pub up_to: UpTo,
    /// Whether the newest events come first. `up_to` must be [`UpTo::End`] then.
    pub newest_first: bool,
    /// The largest number of events.
    pub max_events: usize,
    /// The largest size of all changes together, in bytes of JSON. The first event may exceed it.
    pub max_bytes: usize,
}

/// A part of a history.
#[derive(Clone, Debug, PartialEq)]
pub struct EventPart {
    /// The events, in order.
    pub events: Vec<Event>,
    /// The size of all changes, in bytes of JSON.
    pub bytes: usize,
    /// Whether the range has more events.
    pub has_more: bool,
}

impl UpTo {
    /// The last version and the last time.
    pub(super) fn bounds(self) -> (i64, Option<DateTime<Utc>>) {
        match self {
            Self::End => (i64::MAX, None),
            Self::Version(version) => (version.get(), None),
            Self::Time(at) => (i64::MAX, Some(at)),
        }
    }
}

/// Reads a part of the history of a session. The result is empty if the enterprise has no such
/// session.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn read_events(
    pool: &Pool,
    buin: Buin,
    id: SessionId,
    range: HistoryRange,
) -> Result<EventPart, Error> {
    let HistoryRange { after, up_to, newest_first, max_events, max_bytes } = range;
    let (last_version, last_time) = up_to.bounds();
    let start = if newest_first { i64::MAX } else { 0 };
    let statement = sqlx::query_as!(
        EventRow,
        r#"
        with recursive part as (
            -- The first row is no event, but the position before the first one.
            select $4::bigint as version, null::text as kind, null::text as operator,
                   null::text as app_id, null::text as reason, null::jsonb as changes,
                   null::json as attributes, null::timestamptz as created_at, 0::bigint as number,
                   0::bigint as bytes
            union all
            select event.version, event.kind, event.operator, event.app_id, event.reason,
                   event.changes, event.attributes, event.created_at, part.number + 1,
                   part.bytes + event.bytes
            from part
            cross join lateral (
                select *, octet_length(changes::text)
                          + coalesce(octet_length(attributes::text), 0) as bytes
                from (
                    (
                        select version, kind, operator, app_id, reason, changes, attributes,
                               created_at
                        from session_event
                        where session_id = $1 and buin = $2 and not $3::bool
                          and version > part.version and version <= $5
                        order by version
                        limit 1
                    ) union all (
                        select version, kind, operator, app_id, reason, changes, attributes,
                               created_at
                        from session_event
                        where session_id = $1 and buin = $2 and $3 and version < part.version
                        order by version desc
                        limit 1
                    )
                ) as next
                -- Times of a session never decrease, so no later event matches either.
                where created_at <= coalesce($6::timestamptz, 'infinity')
                offset 0
            ) as event
            where part.number < $7
              and (part.number = 0 or part.bytes + event.bytes <= $8)
        ), last as (
            select version, number, bytes from part order by number desc limit 1
        ), following as (
            (
                select created_at
                from session_event
                where session_id = $1 and buin = $2 and not $3 and version <= $5
                  and version > (select version from last)
                order by version
                limit 1
            ) union all (
                select created_at
                from session_event
                where session_id = $1 and buin = $2 and $3
                  and version < (select version from last)
                order by version desc
                limit 1
            )
        )
        select version as "version!", kind as "kind!", operator as "operator!",
               app_id as "app_id!", reason as "reason?",
               changes as "changes!: Json<StoredChanges<'static>>",
               attributes as "attributes?: Json<Map<String, Value>>",
               created_at as "created_at!", bytes as "bytes!",
               exists (
                   select from following
                   where created_at <= coalesce($6, 'infinity')
               ) as "has_more!"
        from part
        where number > 0
        order by number
        "#,
        id.uuid(),
        buin.get(),
        newest_first,
        after.map_or(start, Version::get),
        last_version,
        last_time,
        i64::try_from(max_events).unwrap_or(i64::MAX),
        i64::try_from(max_bytes).unwrap_or(i64::MAX),
    );
    let rows = pool.fetch_all(Persistent(statement)).await?;
    let mut part = EventPart { events: Vec::with_capacity(rows.len()), bytes: 0, has_more: false };
    // Each row is dropped as soon as it is read, so that the part is held once.
    for row in rows {
        let row = EventRow::from_row(&row)?;
        part.bytes = usize::try_from(row.bytes).unwrap_or(usize::MAX);
        part.has_more = row.has_more;
        part.events.push(row.try_into()?);
    }
    Ok(part)
}

/// The column names are those of the statement.
#[derive(FromRow)]
struct EventRow {
    #[sqlx(rename = "version!")]
    version: i64,
    #[sqlx(rename = "kind!")]
    kind: String,
    #[sqlx(rename = "operator!")]
    operator: String,
    #[sqlx(rename = "app_id!")]
    app_id: String,
    #[sqlx(rename = "reason?")]
    reason: Option<String>,
    #[sqlx(rename = "changes!: Json<StoredChanges<'static>>")]
    changes: Json<StoredChanges<'static>>,
    #[sqlx(rename = "attributes?: Json<Map<String, Value>>")]
    attributes: Option<Json<Map<String, Value>>>,
    #[sqlx(rename = "created_at!")]
    created_at: DateTime<Utc>,
    /// The size of the changes so far.
    #[sqlx(rename = "bytes!")]
    bytes: i64,
    #[sqlx(rename = "has_more!")]
    has_more: bool,
}

impl TryFrom<EventRow> for Event {
    type Error = Error;

    fn try_from(row: EventRow) -> Result<Self, Error> {
        let event = StoredEvent {
            version: row.version,
            kind: &row.kind,
            app_id: &row.app_id,
            content: StoredContent {
                operator: &row.operator,
                reason: row.reason.as_deref(),
                changes: row.changes.0,
                attributes: row.attributes.map(|patch| patch.0),
                created_at: row.created_at,
            },
        };
        event.try_into()
    }
}
