//! Waits until the running servers have a change, so that it is in force when the use case returns.

use std::time::Duration;

use super::{AdminContext, Error};
use crate::repository::app_notifications;
use crate::telemetry::cause_chain;
use crate::wire::MasterKeyId;

/// The maximum time that a use case waits for the servers.
const CONFIRMATION_TIMEOUT: Duration = Duration::from_secs(3);

/// Waits until every running server has the committed change. If a server does not answer, a
/// warning in the log is enough, because the server reads the change within seconds.
pub(super) async fn announce(admin: &AdminContext) {
    match app_notifications::wait_for_acks(&admin.pool, CONFIRMATION_TIMEOUT, None).await {
        Ok(0) => {}
        Ok(missing) => tracing::warn!(
            servers = missing,
            "changed, but not every running server has confirmed it: it takes effect there within seconds"
        ),
        Err(error) => tracing::warn!(
            error = %cause_chain(&error),
            "changed, but it is unknown whether the running servers know of it"
        ),
    }
}

/// Asks every running server whether it has a master key. Returns the number of servers that did
/// not confirm.
pub(super) async fn unconfirmed(admin: &AdminContext, key: MasterKeyId) -> Result<u64, Error> {
    Ok(app_notifications::wait_for_acks(&admin.pool, CONFIRMATION_TIMEOUT, Some(key)).await?)
}
