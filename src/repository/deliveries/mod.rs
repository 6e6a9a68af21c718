//! Callbacks to apps, and the attempts to deliver them.
//!
//! [`super::sessions`] writes a row together with the change that it reports. Here a worker claims
//! the deliveries that are due ([`claim()`]) and stores the results ([`record()`],
//! [`give_back()`]); operators list, count and replay deliveries ([`list`], [`count()`],
//! [`replay`]).

/// Runs a statement, and runs it again if PostgreSQL aborts it as the victim of a deadlock; an
/// aborted statement has no effect. Workers and operators lock many rows in different orders.
macro_rules! retry_on_deadlock {
    ($statement:expr) => {{
        let mut tries = 1;
        loop {
            match $statement {
                Err(error) if tries < super::MAX_DEADLOCK_RETRIES && super::is_deadlock(&error) => {
                    tries += 1
                }
                done => break done,
            }
        }
    }};
}

mod admin;
mod claim;
mod claimed;
mod complete;
mod count;
mod release;

pub use admin::{DeliveryFilter, DeliverySummary, attempts, find, list, prune, replay};
pub use claim::{AppCapacity, ClaimBatch, claim};
pub use claimed::{ClaimedDelivery, ClaimedEvent};
pub use complete::{AttemptRecord, CompletedAttempt, NextState, complete};
pub use count::{DeliveryCounts, count};
pub use release::{Lease, ReleasedDelivery, release, release_lost_leases};

/// How often a statement is run if each run ends in a deadlock. PostgreSQL needs a second to detect
/// one.
const MAX_DEADLOCK_RETRIES: u32 = 5;

fn is_deadlock(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "40P01")
}
