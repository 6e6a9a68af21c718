//! A delivery: the callback that reports one change of a session to one app.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};

use super::{AppId, Buin, SessionId, Version};

/// The permanent id of a delivery: the session, the version, the app. Written
/// `SESSION.VERSION.APP`, with the session as a lower-case UUID.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId {
    /// The session that changed.
    pub session_id: SessionId,
    /// The version that the callback reports.
    pub version: Version,
    /// The app that receives the callback.
    pub app_id: AppId,
}

/// The text is not the id of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be SESSION.VERSION.APP, as in a list of deliveries")]
pub struct InvalidDeliveryId;

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let session = self.session_id.uuid();
        write!(f, "{}.{}.{}", session.hyphenated(), self.version, self.app_id)
    }
}

impl FromStr for DeliveryId {
    type Err = InvalidDeliveryId;

    fn from_str(text: &str) -> Result<Self, InvalidDeliveryId> {
        let mut parts = text.splitn(3, '.');
        let mut next = || parts.next().ok_or(InvalidDeliveryId);
        let session_id = next()?.parse().map_err(|_| InvalidDeliveryId)?;
        let version: i64 = next()?.parse().map_err(|_| InvalidDeliveryId)?;
        let version = Version::new(version).map_err(|_| InvalidDeliveryId)?;
        // An app id may contain dots, so it comes last.
        let app_id = next()?.parse().map_err(|_| InvalidDeliveryId)?;
        Ok(Self { session_id, version, app_id })
    }
}

/// The state of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryState {
    /// The delivery waits for its time, or for an earlier delivery of its session.
    Pending,
    /// A worker is sending the callback.
    Leased,
    /// The receiver acknowledged the callback.
    Delivered,
    /// All attempts failed. The delivery can be replayed.
    Failed,
}

impl DeliveryState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Leased, Self::Delivered, Self::Failed];

    /// The name on the command line and in the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Leased => "leased",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for DeliveryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DeliveryState {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let matching = Self::ALL.into_iter().find(|state| state.name() == name);
        matching.ok_or_else(|| "must be pending, leased, delivered or failed".to_owned())
    }
}

/// A filter of deliveries: a delivery must meet every condition that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// The delivery has this id.
    pub id: Option<DeliveryId>,
    /// The delivery is to the app of this id.
    pub app_id: Option<AppId>,
    /// The delivery is to an app of this enterprise.
    pub buin: Option<Buin>,
    /// The delivery is in this state.
    pub state: Option<DeliveryState>,
    /// The delivery is about this session.
    pub session_id: Option<SessionId>,
    /// The reported change was at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// The reported change was before this time.
    pub until: Option<DateTime<Utc>>,
}

/// A delivery without its attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliverySummary {
    /// The id, which the receiver sees in the header `X-Muster-Delivery`.
    pub id: DeliveryId,
    /// The enterprise.
    pub buin: Buin,
    /// The state.
    pub state: DeliveryState,
    /// The number of attempts so far.
    pub attempts: i32,
    /// The time of the next attempt, or the end of the lease. Meaningless in a final state.
    pub due_at: DateTime<Utc>,
    /// The time of the reported change.
    pub created_at: DateTime<Utc>,
    /// The time at which the delivery was acknowledged or failed.
    pub finished_at: Option<DateTime<Utc>>,
    /// Scheme, host and port of the app's callback URL, as it is now.
    pub receiver: Option<String>,
    /// The error of the last attempt, if it failed.
    pub last_error: Option<String>,
}

/// One attempt to deliver a callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    /// The number, from 1. A replay continues the numbers.
    pub attempt: i32,
    /// The start time.
    pub started_at: DateTime<Utc>,
    /// The duration in milliseconds.
    pub duration_ms: i32,
    /// The HTTP status, if a response arrived.
    pub status: Option<u16>,
    /// The reason of the failure; `None` if the receiver acknowledged the callback.
    pub error: Option<String>,
    /// The beginning of the response's body, without control characters.
    pub response_excerpt: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delivery_id_round_trips() {
        let text = "8ad595f3-73b3-4b56-90af-f336f9222fc5.12.yd.01-a";
        let id: DeliveryId = text.parse().unwrap();
        assert_eq!((id.version.get(), id.app_id.as_str()), (12, "yd.01-a"));
        assert_eq!(id.to_string(), text);
        for bad in ["", "a.b.c", "8ad595f3-73b3-4b56-90af-f336f9222fc5.0.a", "1.2"] {
            assert_eq!(bad.parse::<DeliveryId>(), Err(InvalidDeliveryId), "{bad}");
        }
    }
}
