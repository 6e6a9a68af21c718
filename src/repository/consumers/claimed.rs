//! The result of a claim, read from its rows.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::types::Json;
use uuid::Uuid;

use super::row::{self, ConsumerPosition, FilterColumns, number};
use crate::domain::{FeedFilter, LeasedEvent, SessionId};
use crate::repository::Error;
use crate::repository::error::corrupt;
use crate::repository::history::{StoredContent, StoredEvent};
use crate::repository::sessions::StoredChanges;

/// A consumer, and the changes that its member got.
#[derive(Clone, Debug)]
pub struct ConsumerClaim {
    /// The identity of the consumer since its last reset.
    pub consumer_id: Uuid,
    /// Whether its position is of the present line of history. If not, no changes were taken.
    pub is_current: bool,
    /// Whether the time of its last use must be renewed.
    pub is_use_old: bool,
    /// Selects its changes.
    pub filter: FeedFilter,
    /// Its position.
    pub position: ConsumerPosition,
    /// The number of changes that were leased or ready before the claim, at most
    /// [`ConsumerLimits::MAX_ACTIVE`](crate::domain::ConsumerLimits::MAX_ACTIVE).
    pub active: u64,
    /// The number of changes that were held back before the claim: parked, or waiting behind a parked one.
    pub held_back: u64,
    /// The changes that the member got, in their order.
    pub events: Vec<LeasedEvent>,
}

/// The column names are those of the statement.
pub(super) struct ClaimRow {
    pub(super) consumer_id: Uuid,
    pub(super) is_current: bool,
    pub(super) is_use_old: bool,
    pub(super) filter_member: Option<String>,
    pub(super) filter_owner: Option<String>,
    pub(super) filter_session_id: Option<Uuid>,
    pub(super) filter_kind: Option<String>,
    pub(super) filter_app_id: Option<String>,
    pub(super) position: i64,
    pub(super) cursor: String,
    pub(super) active: i64,
    pub(super) held_back: i64,
    pub(super) seq: Option<i64>,
    pub(super) prev_seq: Option<i64>,
    pub(super) session_id: Option<Uuid>,
    pub(super) version: Option<i64>,
    pub(super) attempts: Option<i32>,
    pub(super) lease_until: Option<DateTime<Utc>>,
    pub(super) kind: Option<String>,
    pub(super) operator: Option<String>,
    pub(super) app_id: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) changes: Option<Json<StoredChanges<'static>>>,
    pub(super) attributes: Option<Json<Map<String, Value>>>,
    pub(super) created_at: Option<DateTime<Utc>>,
}

impl ClaimRow {
    /// The change of the row, if the member got any.
    pub(super) fn take_event(&mut self) -> Result<Option<LeasedEvent>, Error> {
        let (Some(seq), Some(prev_seq), Some(session_id), Some(version), Some(attempts)) =
            (self.seq, self.prev_seq, self.session_id, self.version, self.attempts)
        else {
            return Ok(None);
        };
        let (
            Some(lease_until),
            Some(kind),
            Some(operator),
            Some(app_id),
            Some(changes),
            Some(created_at),
        ) = (
            self.lease_until,
            &self.kind,
            &self.operator,
            &self.app_id,
            self.changes.take(),
            self.created_at,
        )
        else {
            return Err(corrupt("consumer_event", "version", version)("has no event"));
        };
        let event = StoredEvent {
            version,
            kind,
            app_id,
            content: StoredContent {
                operator,
                reason: self.reason.as_deref(),
                changes: changes.0,
                attributes: self.attributes.take().map(|patch| patch.0),
                created_at,
            },
        };
        Ok(Some(LeasedEvent {
            seq: row::seq("consumer_event", "seq", seq)?,
            prev_seq: row::seq("consumer_event", "prev_seq", prev_seq)?,
            session_id: SessionId::new(session_id),
            event: event.try_into()?,
            attempt: u32::try_from(attempts).unwrap_or_default(),
            lease_until,
        }))
    }
}

impl TryFrom<ClaimRow> for ConsumerClaim {
    type Error = Error;

    /// The claim without its changes.
    fn try_from(row: ClaimRow) -> Result<Self, Error> {
        let filter = FilterColumns {
            member: row.filter_member,
            owner: row.filter_owner,
            session_id: row.filter_session_id,
            kind: row.filter_kind,
            app_id: row.filter_app_id,
        };
        Ok(Self {
            consumer_id: row.consumer_id,
            is_current: row.is_current,
            is_use_old: row.is_use_old,
            filter: filter.try_into()?,
            position: ConsumerPosition {
                seq: row::seq("consumer_position", "position", row.position)?,
                cursor: row.cursor,
            },
            active: number(row.active),
            held_back: number(row.held_back),
            events: Vec::new(),
        })
    }
}
