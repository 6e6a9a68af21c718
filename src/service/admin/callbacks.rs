//! Callbacks: list, show, replay. The worker that sends them is in [`crate::delivery`].

use super::{AdminContext, Error};
use crate::domain::{
    AttemptRecord, CallbacksBlocked, DeliveryFilter, DeliveryId, DeliveryState, DeliverySummary,
};
use crate::repository::{apps, deliveries};

/// A callback with its attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackDetails {
    /// The callback.
    pub callback: DeliverySummary,
    /// The attempts in their order. An attempt is missing if its worker ended before it wrote the
    /// result.
    pub attempts: Vec<AttemptRecord>,
    /// The reason why a pending callback is not sent now.
    pub withheld: Option<CallbacksBlocked>,
}

/// Lists callbacks, the newest first, at most `limit`.
///
/// # Errors
/// The database fails.
pub async fn list(
    admin: &AdminContext,
    filter: &DeliveryFilter,
    limit: i64,
) -> Result<Vec<DeliverySummary>, Error> {
    Ok(deliveries::list(&admin.pool, filter, limit).await?)
}

/// Finds a callback and its attempts.
///
/// # Errors
/// [`Error::CallbackNotFound`], or the database fails.
pub async fn find(admin: &AdminContext, id: &DeliveryId) -> Result<CallbackDetails, Error> {
    let callback = deliveries::find(&admin.pool, id).await?.ok_or(Error::CallbackNotFound)?;
    let attempts = deliveries::attempts(&admin.pool, id).await?;
    let withheld = match callback.state {
        DeliveryState::Pending => {
            let (buin, app_id) = (callback.buin, &callback.id.app_id);
            apps::find(&admin.pool, &admin.keyring, buin, app_id).await?.app.callbacks_blocked()
        }
        DeliveryState::Leased | DeliveryState::Delivered | DeliveryState::Failed => None,
    };
    Ok(CallbackDetails { callback, attempts, withheld })
}

/// Makes one callback due now, at the beginning of its retry schedule. Returns the number of
/// callbacks that are sent again: 1, or 0 if a worker started to send it meanwhile.
///
/// # Errors
/// [`Error::CallbackNotFound`], [`Error::CallbackInFlight`], or the database fails.
pub async fn replay_one(admin: &AdminContext, id: &DeliveryId) -> Result<u64, Error> {
    let callback = deliveries::find(&admin.pool, id).await?.ok_or(Error::CallbackNotFound)?;
    if callback.state == DeliveryState::Leased {
        return Err(Error::CallbackInFlight);
    }
    let (id, buin) = (Some(callback.id), Some(callback.buin));
    let filter = DeliveryFilter { id, buin, ..DeliveryFilter::default() };
    Ok(deliveries::replay(&admin.pool, &filter, admin.audit_context()).await?)
}

/// Makes callbacks due now, each at the beginning of its retry schedule. Callbacks that a worker is
/// sending are skipped. Returns the number of callbacks that are sent again.
///
/// # Errors
/// [`Error::AppIdNotFound`], or the database fails.
pub async fn replay(admin: &AdminContext, filter: &DeliveryFilter) -> Result<u64, Error> {
    if let Some(app_id) = &filter.app_id {
        let apps = apps::list(&admin.pool, &admin.keyring).await?;
        if !apps.iter().any(|stored| stored.app.app_id == *app_id) {
            return Err(Error::AppIdNotFound(app_id.clone()));
        }
    }
    Ok(deliveries::replay(&admin.pool, filter, admin.audit_context()).await?)
}
