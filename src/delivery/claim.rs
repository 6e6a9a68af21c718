//! Taking what is due, on a connection of its own.

use chrono::{DateTime, Utc};

use super::single_flight::soon;
use crate::repository;
use crate::repository::dedicated_connection::Line;
use crate::repository::deliveries::{self, Claims, Lease, Room};

/// Takes up to `most`, and as many for each app as there is room.
pub(super) async fn take(
    line: &mut Line,
    rooms: &[Room],
    most: usize,
    now: DateTime<Utc>,
    lease: &Lease,
) -> Result<Claims, repository::Error> {
    let mut connection = line.take(soon()).await?;
    let claims = line.bounded(deliveries::claim(&mut connection, rooms, most, now, lease)).await;
    line.give_back(connection, &claims);
    claims
}
