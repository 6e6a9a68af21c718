//! A delivery as operators see it, read from a row.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::{Buin, DeliveryId, DeliverySummary, SessionId, Version, url_origin};
use crate::repository::Error;
use crate::repository::error::corrupt;

/// The column names are those of the statement in [`super::list`].
pub(super) struct DeliveryRow {
    pub(super) session_id: Uuid,
    pub(super) buin: i64,
    pub(super) app_id: String,
    pub(super) version: i64,
    pub(super) state: String,
    pub(super) attempts: i32,
    pub(super) due_at: DateTime<Utc>,
    pub(super) created_at: DateTime<Utc>,
    pub(super) finished_at: Option<DateTime<Utc>>,
    pub(super) callback_url: Option<String>,
    pub(super) last_error: Option<String>,
}

impl TryFrom<DeliveryRow> for DeliverySummary {
    type Error = Error;

    fn try_from(row: DeliveryRow) -> Result<Self, Error> {
        Ok(Self {
            id: DeliveryId {
                session_id: SessionId::new(row.session_id),
                version: Version::new(row.version).map_err(corrupt(
                    "delivery",
                    "version",
                    row.version,
                ))?,
                app_id: row.app_id.parse().map_err(corrupt("delivery", "app_id", &row.app_id))?,
            },
            buin: Buin::new(row.buin).map_err(corrupt("delivery", "buin", row.buin))?,
            state: row.state.parse().map_err(corrupt("delivery", "state", &row.state))?,
            attempts: row.attempts,
            due_at: row.due_at,
            created_at: row.created_at,
            finished_at: row.finished_at,
            receiver: row.callback_url.as_deref().and_then(url_origin),
            last_error: row.last_error,
        })
    }
}
