//! The rows of a page: changes, and in each row the positions of the page. One row holds only the positions
//! if the page has no change.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::FromRow;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::request::{EnterprisePosition, FeedPart};
use crate::domain::{FeedEvent, FeedSeq, SessionId, Version};
use crate::repository::Error;
use crate::repository::error::corrupt;
use crate::repository::history::{StoredContent, StoredEvent};
use crate::repository::sessions::{StoredChanges, version};

/// The column names are those of the statement.
#[derive(FromRow)]
pub(super) struct PageRow {
    pub(super) epoch: Uuid,
    #[sqlx(rename = "start_id?")]
    pub(super) start_id: Option<Uuid>,
    #[sqlx(rename = "start_version?")]
    pub(super) start_version: Option<i64>,
    #[sqlx(rename = "head_seq?")]
    pub(super) head_seq: Option<i64>,
    #[sqlx(rename = "head_id?")]
    pub(super) head_id: Option<Uuid>,
    #[sqlx(rename = "head_version?")]
    pub(super) head_version: Option<i64>,
    #[sqlx(rename = "next_seq?")]
    pub(super) next_seq: Option<i64>,
    #[sqlx(rename = "next_id?")]
    pub(super) next_id: Option<Uuid>,
    #[sqlx(rename = "next_version?")]
    pub(super) next_version: Option<i64>,
    #[sqlx(rename = "lag?")]
    pub(super) lag: Option<f64>,
    #[sqlx(rename = "seq?")]
    pub(super) seq: Option<i64>,
    #[sqlx(rename = "session_id?")]
    pub(super) session_id: Option<Uuid>,
    #[sqlx(rename = "version?")]
    pub(super) version: Option<i64>,
    #[sqlx(rename = "kind?")]
    pub(super) kind: Option<String>,
    #[sqlx(rename = "operator?")]
    pub(super) operator: Option<String>,
    #[sqlx(rename = "app_id?")]
    pub(super) app_id: Option<String>,
    #[sqlx(rename = "reason?")]
    pub(super) reason: Option<String>,
    #[sqlx(rename = "changes?: Json<StoredChanges<'static>>")]
    pub(super) changes: Option<Json<StoredChanges<'static>>>,
    #[sqlx(rename = "attributes?: Json<Map<String, Value>>")]
    pub(super) attributes: Option<Json<Map<String, Value>>>,
    #[sqlx(rename = "created_at?")]
    pub(super) created_at: Option<DateTime<Utc>>,
    #[sqlx(rename = "bytes?")]
    pub(super) bytes: Option<i64>,
}

pub(in crate::repository::feed) fn seq(number: i64) -> Result<FeedSeq, Error> {
    FeedSeq::new(number).map_err(corrupt("feed", "seq", number))
}

/// The session and the version of a change, if there is one.
pub(in crate::repository::feed) fn change(
    id: Option<Uuid>,
    number: Option<i64>,
) -> Result<Option<(SessionId, Version)>, Error> {
    let (Some(id), Some(number)) = (id, number) else { return Ok(None) };
    Ok(Some((SessionId::new(id), version("feed", number)?)))
}

/// The age of a change, if there is one. The clock of the database may have gone back.
pub(in crate::repository::feed) fn lag(seconds: Option<f64>) -> Duration {
    Duration::try_from_secs_f64(seconds.unwrap_or_default()).unwrap_or_default()
}

impl PageRow {
    /// The change of the row, if it has one.
    fn event(self) -> Result<Option<FeedEvent>, Error> {
        let (Some(number), Some(id), Some(version)) = (self.seq, self.session_id, self.version)
        else {
            return Ok(None);
        };
        let (Some(kind), Some(operator), Some(app_id), Some(changes), Some(created_at)) =
            (self.kind, self.operator, self.app_id, self.changes, self.created_at)
        else {
            return Ok(None);
        };
        let event = StoredEvent {
            version,
            kind: &kind,
            app_id: &app_id,
            content: StoredContent {
                operator: &operator,
                reason: self.reason.as_deref(),
                changes: changes.0,
                attributes: self.attributes.map(|patch| patch.0),
                created_at,
            },
        };
        let (seq, session_id) = (seq(number)?, SessionId::new(id));
        Ok(Some(FeedEvent { seq, session_id, event: event.try_into()? }))
    }
}

/// Each row is dropped as soon as it is read, so that the page is held once.
pub(super) fn part(rows: Vec<PgRow>) -> Result<FeedPart, Error> {
    let mut part = FeedPart {
        epoch: Uuid::nil(),
        start: None,
        events: Vec::with_capacity(rows.len()),
        bytes: 0,
        next: EnterprisePosition::default(),
        head: EnterprisePosition::default(),
        lag: Duration::ZERO,
    };
    for row in rows {
        let row = PageRow::from_row(&row)?;
        part.epoch = row.epoch;
        part.start = change(row.start_id, row.start_version)?;
        part.head = EnterprisePosition {
            seq: seq(row.head_seq.unwrap_or_default())?,
            change: change(row.head_id, row.head_version)?,
        };
        part.next = EnterprisePosition {
            seq: seq(row.next_seq.unwrap_or_default())?,
            change: change(row.next_id, row.next_version)?,
        };
        part.lag = lag(row.lag);
        part.bytes = usize::try_from(row.bytes.unwrap_or_default()).unwrap_or(usize::MAX);
        part.events.extend(row.event()?);
    }
    Ok(part)
}
