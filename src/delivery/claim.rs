//! Claims due deliveries, on a dedicated connection.

use chrono::{DateTime, Utc};

use super::single_flight::connect_deadline;
use crate::repository;
use crate::repository::connections::dedicated_connection::DedicatedConnection;
use crate::repository::deliveries::{self, AppCapacity, ClaimBatch, Lease};

/// Claims up to `max` deliveries, and for each app as many as its capacity allows.
pub(super) async fn claim_due(
    dedicated: &mut DedicatedConnection,
    capacities: &[AppCapacity],
    max: usize,
    now: DateTime<Utc>,
    lease: &Lease,
) -> Result<ClaimBatch, repository::Error> {
    let connection = dedicated.acquire(connect_deadline()).await?;
    let claiming = dedicated.run(connection, |mut connection| async move {
        let claims = deliveries::claim(&mut connection, capacities, max, now, lease).await;
        (connection, claims)
    });
    claiming.await
}
