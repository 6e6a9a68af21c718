//! A claimed delivery and the event that it reports, read from a row.

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use crate::domain::{Buin, DeliveryId, EventKind, SessionId, Version};
use crate::repository::Error;
use crate::repository::error::corrupt;
use crate::repository::sessions::StoredChanges;
use crate::telemetry::Trace;

/// A delivery that belongs to this worker until its lease ends.
#[derive(Clone, Debug)]
pub struct ClaimedDelivery {
    /// The id of the delivery.
    pub id: DeliveryId,
    /// The enterprise.
    pub buin: Buin,
    /// The lease, which [`super::complete()`] requires.
    pub lease: Uuid,
    /// The number of this attempt since the change.
    pub attempt: i32,
    /// The number of this attempt since the change or the last replay.
    pub attempt_in_round: i32,
    /// The time of the first attempt since the change or the last replay.
    pub first_tried_at: DateTime<Utc>,
    /// The trace of the request that made the change, if any.
    pub trace: Option<Trace>,
    /// The reported event.
    pub event: ClaimedEvent,
}

/// A change of a session, from its history.
#[derive(Clone, Debug)]
pub struct ClaimedEvent {
    /// The kind of the change.
    pub kind: EventKind,
    /// The account that acted.
    pub operator: String,
    /// The title after the change.
    pub title: String,
    /// The owner after the change.
    pub owner: String,
    /// All members, if the session was created.
    pub member: Vec<String>,
    /// The members who joined.
    pub add_member: Vec<String>,
    /// The members who left.
    pub del_member: Vec<String>,
    /// The time of the change.
    pub at: DateTime<Utc>,
}

/// The column names are those of the statement in [`super::claim()`].
#[derive(FromRow)]
pub(super) struct ClaimedRow {
    #[sqlx(rename = "more!")]
    pub(super) more: bool,
    #[sqlx(rename = "session_id?")]
    pub(super) session_id: Option<Uuid>,
    #[sqlx(rename = "buin?")]
    pub(super) buin: Option<i64>,
    #[sqlx(rename = "app_id?")]
    pub(super) app_id: Option<String>,
    #[sqlx(rename = "version?")]
    pub(super) version: Option<i64>,
    #[sqlx(rename = "attempts?")]
    pub(super) attempts: Option<i32>,
    #[sqlx(rename = "tries?")]
    pub(super) tries: Option<i32>,
    pub(super) first_tried_at: Option<DateTime<Utc>>,
    pub(super) trace: Option<Vec<u8>>,
    #[sqlx(rename = "kind?")]
    pub(super) kind: Option<String>,
    #[sqlx(rename = "operator?")]
    pub(super) operator: Option<String>,
    #[sqlx(rename = "title?")]
    pub(super) title: Option<String>,
    #[sqlx(rename = "owner?")]
    pub(super) owner: Option<String>,
    #[sqlx(rename = "changes?: Json<StoredChanges<'static>>")]
    pub(super) changes: Option<Json<StoredChanges<'static>>>,
    #[sqlx(rename = "created_at?")]
    pub(super) created_at: Option<DateTime<Utc>>,
}

impl ClaimedRow {
    /// The delivery of the row. The one row that holds only counts has no delivery.
    pub(super) fn into_claimed(self, lease: Uuid) -> Result<Option<ClaimedDelivery>, Error> {
        let (Some(session_id), Some(app_id), Some(changes)) =
            (self.session_id, self.app_id, self.changes)
        else {
            return Ok(None);
        };
        let [member, add_member, del_member] = changes.0.into_members();
        let version = self.version.unwrap_or_default();
        let buin = self.buin.unwrap_or_default();
        let kind = self.kind.unwrap_or_default();
        Ok(Some(ClaimedDelivery {
            id: DeliveryId {
                session_id: SessionId::new(session_id),
                version: Version::new(version).map_err(corrupt("delivery", "version", version))?,
                app_id: app_id.parse().map_err(corrupt("delivery", "app_id", &app_id))?,
            },
            buin: Buin::new(buin).map_err(corrupt("delivery", "buin", buin))?,
            lease,
            attempt: self.attempts.unwrap_or_default(),
            attempt_in_round: self.tries.unwrap_or_default(),
            first_tried_at: self.first_tried_at.unwrap_or_default(),
            trace: self.trace.as_deref().and_then(Trace::from_bytes),
            event: ClaimedEvent {
                kind: kind.parse().map_err(corrupt("session_event", "kind", &kind))?,
                operator: self.operator.unwrap_or_default(),
                title: self.title.unwrap_or_default(),
                owner: self.owner.unwrap_or_default(),
                member,
                add_member,
                del_member,
                at: self.created_at.unwrap_or_default(),
            },
        }))
    }
}
