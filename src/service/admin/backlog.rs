//! The waiting callbacks of an app whose receiver changed.

use super::{AdminContext, Error};
use crate::domain::{App, DeliveryFilter, DeliveryState};
use crate::repository::deliveries;

/// Makes the pending callbacks of an app due now. The running servers know the changed app already.
pub(super) async fn wake(admin: &AdminContext, app: &App) -> Result<(), Error> {
    let filter = DeliveryFilter {
        buin: Some(app.buin),
        app_id: Some(app.app_id.clone()),
        state: Some(DeliveryState::Pending),
        ..DeliveryFilter::default()
    };
    deliveries::replay(&admin.pool, &filter, admin.audit_context()).await?;
    Ok(())
}
