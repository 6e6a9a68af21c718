//! What is to be told to apps, and every try of telling it.
//!
//! Rows are made where changes are written, by [`super::sessions`]. Here a worker takes what is due
//! ([`claim()`]) and writes down what became of it ([`record()`], [`give_back()`]), and operators
//! look and replay ([`list`], [`replay`], [`count()`]).

/// Makes a statement, and makes it again when PostgreSQL ended it because it and another waited for
/// each other: it did nothing then. Workers and operators change many rows at once, the one in
/// another order than the other.
macro_rules! unlocked {
    ($statement:expr) => {{
        let mut tries = 1;
        loop {
            match $statement {
                Err(error) if tries < super::DEADLOCKS && super::deadlocked(&error) => tries += 1,
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

pub use admin::{Attempt, Filter, Listed, attempts, find, list, prune, replay};
pub use claim::{Claims, Room, claim};
pub use claimed::{Claimed, Event};
pub use complete::{Finished, Next, Tried, record};
pub use count::{Counted, count};
pub use release::{Lease, Unsent, give_back, give_up};

/// So often in a row a statement may lose. PostgreSQL takes a second each time to notice.
const DEADLOCKS: u32 = 5;

fn deadlocked(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "40P01")
}
