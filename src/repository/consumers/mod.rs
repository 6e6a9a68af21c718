//! Named consumers of the feed: their positions, and the changes that their members have.
//!
//! Each statement of a fetch commits by itself. A claim locks the first change of each session that it
//! takes, so two members never take one session, and the clock of the database decides when a lease
//! ends. The surprise: the position of a consumer is its last row of `consumer_position`. The statement that
//! deletes this row writes the next one, so of several servers that select the same changes one wins.

mod acknowledge;
mod availability;
mod claim;
mod claimed;
mod count;
mod manage;
mod position;
mod release;
mod removal;
mod row;
mod select;
mod status;

pub use acknowledge::{Acknowledged, acknowledge};
pub use availability::{ConsumerAvailability, check_availability, touch};
pub use claim::claim;
pub use claimed::ConsumerClaim;
pub use count::{ConsumerCounts, count};
pub use manage::{NewConsumer, create, reset, update};
pub use release::release;
pub(super) use removal::remove_of_app;
pub use removal::{prune, remove};
pub use row::ConsumerPosition;
pub use select::{SelectedEvent, Selection, select};
pub use status::{find, list, members, parked};
