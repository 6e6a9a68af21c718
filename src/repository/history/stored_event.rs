//! The one conversion of stored events. The statements that read events have different columns beside
//! those of the event.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::domain::{AppId, Event, EventKind, Reason, Version};
use crate::repository::Error;
use crate::repository::error::corrupt;
use crate::repository::sessions::{StoredChanges, account, version};

/// The columns of an event.
pub(in crate::repository) struct StoredEvent<'a> {
    pub(in crate::repository) version: i64,
    pub(in crate::repository) kind: &'a str,
    pub(in crate::repository) app_id: &'a str,
    pub(in crate::repository) content: StoredContent<'a>,
}

/// The columns of an event that the feed does not have.
pub(in crate::repository) struct StoredContent<'a> {
    pub(in crate::repository) operator: &'a str,
    pub(in crate::repository) reason: Option<&'a str>,
    pub(in crate::repository) changes: StoredChanges<'a>,
    pub(in crate::repository) attributes: Option<Map<String, Value>>,
    pub(in crate::repository) created_at: DateTime<Utc>,
}

impl StoredContent<'_> {
    /// The event with this content.
    pub(in crate::repository) fn into_event(
        self,
        version: Version,
        kind: EventKind,
        app_id: AppId,
    ) -> Result<Event, Error> {
        let reason = self.reason.map(|text| {
            Reason::new(text).map_err(|error| corrupt("session_event", "reason", text)(error))
        });
        Ok(Event {
            version,
            kind,
            operator: account("session_event", "operator", self.operator)?,
            app_id,
            reason: reason.transpose()?,
            changes: self.changes.into_changes(self.attributes)?,
            at: self.created_at,
        })
    }
}

impl TryFrom<StoredEvent<'_>> for Event {
    type Error = Error;

    fn try_from(row: StoredEvent<'_>) -> Result<Self, Error> {
        let StoredEvent { version: number, kind, app_id, content } = row;
        content.into_event(
            version("session_event", number)?,
            kind.parse().map_err(corrupt("session_event", "kind", kind))?,
            app_id.parse().map_err(corrupt("session_event", "app_id", app_id))?,
        )
    }
}
