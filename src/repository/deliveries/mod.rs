//! Callbacks to apps, and the attempts to deliver them.
//!
//! [`super::sessions`] writes a delivery together with the change that it reports. Workers claim
//! due deliveries ([`claim()`]) and store the results ([`complete()`], [`release()`]). Operators
//! list, count and replay deliveries ([`list`], [`count()`], [`replay`]).
//!
//! Workers and operators change many rows at once. Each statement locks its rows in the order of the
//! primary key (`order by … for no key update`) before it changes one. The order of an `update … from`
//! is that of its plan, which differs between versions of PostgreSQL.

/// Runs a statement, and runs it again if PostgreSQL aborts it as the victim of a deadlock. An
/// aborted statement has no effect. No statement here should cause a deadlock, but an operator's own
/// SQL may.
macro_rules! retry_on_deadlock {
    ($statement:expr) => {{
        let mut attempts = 1;
        loop {
            match $statement {
                Err(error)
                    if attempts < super::MAX_DEADLOCK_RETRIES
                        && crate::repository::error::is_deadlock(&error) =>
                {
                    attempts += 1
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
mod summary;

pub use admin::{attempts, find, list, prune, replay};
pub use claim::{AppCapacity, ClaimBatch, claim};
pub use claimed::{ClaimedDelivery, ClaimedEvent};
pub use complete::{CompletedAttempt, NextState, complete};
pub use count::{DeliveryCounts, count};
pub use release::{Lease, ReleasedDelivery, release, release_lost_leases};

/// The number of attempts for a statement that ends in a deadlock each time. PostgreSQL needs a
/// second to detect a deadlock.
const MAX_DEADLOCK_RETRIES: u32 = 5;
