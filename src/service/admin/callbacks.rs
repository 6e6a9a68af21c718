//! Callbacks: list, show, replay. The worker that sends them is in [`crate::delivery`].

use chrono::{DateTime, Utc};

use super::{AdminContext, Error};
use crate::domain::{AppId, Buin, CallbacksBlocked, DeliveryId, DeliveryState, SessionId};
use crate::repository::apps;
use crate::repository::deliveries::{self, AttemptRecord, DeliveryFilter, DeliverySummary};

/// A selection of callbacks: a callback must meet every condition that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallbackFilter {
    /// Callbacks to the app of this id.
    pub app_id: Option<AppId>,
    /// Callbacks to apps of this enterprise.
    pub buin: Option<Buin>,
    /// Callbacks in this state.
    pub state: Option<DeliveryState>,
    /// Callbacks about this session.
    pub session_id: Option<SessionId>,
    /// Callbacks about changes at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Callbacks about changes before this time.
    pub until: Option<DateTime<Utc>>,
}

/// A callback without its attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackSummary {
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
    /// The time of the change.
    pub created_at: DateTime<Utc>,
    /// The time at which the callback was delivered or failed.
    pub finished_at: Option<DateTime<Utc>>,
    /// Scheme, host and port of the app's callback URL, as it is now.
    pub receiver: Option<String>,
    /// The error of the last attempt, if it failed.
    pub last_error: Option<String>,
}

/// One attempt to send a callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackAttempt {
    /// The number, from 1. A replay continues the numbers.
    pub number: i32,
    /// The start time.
    pub started_at: DateTime<Utc>,
    /// Its duration in milliseconds.
    pub duration_ms: i32,
    /// The HTTP status of the response, if there was one.
    pub status: Option<u16>,
    /// The reason why the attempt failed; `None` if the receiver acknowledged the callback.
    pub error: Option<String>,
    /// The beginning of the response's body, without control characters.
    pub answer: Option<String>,
}

/// A callback with its attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackDetails {
    /// The callback.
    pub callback: CallbackSummary,
    /// The attempts in their order. An attempt is missing if its worker ended before it wrote the
    /// result.
    pub attempts: Vec<CallbackAttempt>,
    /// The reason why a pending callback is not sent now.
    pub withheld: Option<CallbacksBlocked>,
}

/// Lists callbacks, the newest first, at most `limit`.
///
/// # Errors
/// The database fails.
pub async fn list(
    admin: &AdminContext,
    filter: CallbackFilter,
    limit: i64,
) -> Result<Vec<CallbackSummary>, Error> {
    let listed = deliveries::list(&admin.pool, &filter.into(), limit).await?;
    Ok(listed.into_iter().map(CallbackSummary::from).collect())
}

/// Finds a callback and its attempts.
///
/// # Errors
/// [`Error::CallbackNotFound`], or the database fails.
pub async fn find(admin: &AdminContext, id: &DeliveryId) -> Result<CallbackDetails, Error> {
    let found = deliveries::find(&admin.pool, id).await?.ok_or(Error::CallbackNotFound)?;
    let attempts = deliveries::attempts(&admin.pool, id).await?;
    let withheld = match found.state {
        DeliveryState::Pending => {
            let app = apps::find(&admin.pool, &admin.keyring, found.buin, &found.id.app_id).await?;
            app.app.callbacks_blocked()
        }
        DeliveryState::Leased | DeliveryState::Delivered | DeliveryState::Failed => None,
    };
    let attempts = attempts.into_iter().map(CallbackAttempt::from).collect();
    Ok(CallbackDetails { callback: found.into(), attempts, withheld })
}

/// Makes one callback due now, at the beginning of its retry schedule. Returns the number of
/// callbacks that are sent again: 1, or 0 if a worker started to send it meanwhile.
///
/// # Errors
/// [`Error::CallbackNotFound`], [`Error::CallbackInFlight`], or the database fails.
pub async fn replay_one(admin: &AdminContext, id: &DeliveryId) -> Result<u64, Error> {
    let found = deliveries::find(&admin.pool, id).await?.ok_or(Error::CallbackNotFound)?;
    if found.state == DeliveryState::Leased {
        return Err(Error::CallbackInFlight);
    }
    let (id, buin) = (Some(id.clone()), Some(found.buin));
    let filter = DeliveryFilter { id, buin, ..DeliveryFilter::default() };
    Ok(deliveries::replay(&admin.pool, &filter, admin.audit_context()).await?)
}

/// Makes callbacks due now, each at the beginning of its retry schedule. Callbacks that a worker is
/// sending are skipped. Returns the number of callbacks that are sent again.
///
/// # Errors
/// [`Error::AppIdNotFound`], or the database fails.
pub async fn replay(admin: &AdminContext, filter: CallbackFilter) -> Result<u64, Error> {
    if let Some(app_id) = &filter.app_id {
        let apps = apps::list(&admin.pool, &admin.keyring).await?;
        if !apps.iter().any(|stored| stored.app.app_id == *app_id) {
            return Err(Error::AppIdNotFound(app_id.clone()));
        }
    }
    Ok(deliveries::replay(&admin.pool, &filter.into(), admin.audit_context()).await?)
}

impl From<CallbackFilter> for DeliveryFilter {
    fn from(filter: CallbackFilter) -> Self {
        let CallbackFilter { app_id, buin, state, session_id, since, until } = filter;
        Self { id: None, app_id, buin, state, session_id, since, until }
    }
}

impl From<DeliverySummary> for CallbackSummary {
    fn from(listed: DeliverySummary) -> Self {
        Self {
            id: listed.id,
            buin: listed.buin,
            state: listed.state,
            attempts: listed.attempts,
            due_at: listed.due_at,
            created_at: listed.created_at,
            finished_at: listed.finished_at,
            receiver: listed.receiver,
            last_error: listed.last_error,
        }
    }
}

impl From<AttemptRecord> for CallbackAttempt {
    fn from(attempt: AttemptRecord) -> Self {
        let AttemptRecord {
            attempt: number,
            started_at,
            duration_ms,
            status,
            error,
            response_excerpt: answer,
        } = attempt;
        Self { number, started_at, duration_ms, status, error, answer }
    }
}
