//! Waiting until the running servers know of a change, so that it holds when the use case returns.

use std::time::Duration;

use super::{AdminContext, Error};
use crate::repository::app_notifications;
use crate::wire::MasterKeyId;

/// The longest time that a use case waits for the servers.
const CONFIRMATION_TIMEOUT: Duration = Duration::from_secs(3);

/// Waits until every running server knows what was committed. The change stays if a server does not
/// answer: it reads the change within seconds, so a warning in the log is enough.
pub(super) async fn announce(admin: &AdminContext) {
    match app_notifications::wait_for_acks(&admin.pool, CONFIRMATION_TIMEOUT, None).await {
        Ok(0) => {}
        Ok(missing) => tracing::warn!(
            servers = missing,
            "changed, but not every running server has confirmed it: it takes effect there within seconds"
        ),
        Err(error) => tracing::warn!(
            error = &error as &dyn std::error::Error,
            "changed, but it is unknown whether the running servers know of it"
        ),
    }
}

/// Asks every running server for a master key, and gives the number of servers that did not confirm
/// it.
pub(super) async fn unconfirmed(admin: &AdminContext, key: MasterKeyId) -> Result<u64, Error> {
    Ok(app_notifications::wait_for_acks(&admin.pool, CONFIRMATION_TIMEOUT, Some(key)).await?)
}
