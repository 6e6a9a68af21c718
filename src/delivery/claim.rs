//! Taking what is due, on a connection of its own.

use chrono::{DateTime, Utc};

use super::single_flight::connect_deadline;
use crate::repository;
use crate::repository::dedicated_connection::Line;
use crate::repository::deliveries::{self, Claims, Lease, Room};

/// Takes up to `most`, and as many for each app as there is room.
pub(super) async fn claim_due(
    dedicated: &mut Line,
    capacities: &[Room],
    max: usize,
    now: DateTime<Utc>,
    lease: &Lease,
) -> Result<Claims, repository::Error> {
    let mut connection = dedicated.take(connect_deadline()).await?;
    let claims =
        dedicated.bounded(deliveries::claim(&mut connection, capacities, max, now, lease)).await;
    dedicated.give_back(connection, &claims);
    claims
}
