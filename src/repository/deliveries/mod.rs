//! What is to be told to apps, and every try of telling it.
//!
//! Rows are made where changes are written, by [`super::sessions`]. Here a worker takes what is due
//! ([`claim`]) and writes down what became of it ([`record`]), and operators look and replay
//! ([`list`], [`replay`]).

mod claim;
mod operate;
mod record;

pub use claim::{Claimed, Claims, Event, EventKind, Room, claim};
pub use operate::{Attempt, Filter, Listed, attempts, find, list, prune, replay};
pub use record::{Finished, Next, Tried, record};
