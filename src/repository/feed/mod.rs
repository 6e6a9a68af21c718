//! The feed: all changes of sessions in one order.
//!
//! The statement of a change writes a row of `outbox`, and one server at a time moves all rows of
//! `outbox` into `feed`, in one statement: so every snapshot of the database has a change in exactly
//! one of the two tables. A number is given after the commit, so a reader that has seen a number has
//! seen all changes with lower numbers.
//!
//! The surprise: deleted rows of `outbox` stay in its index while any transaction is older than
//! their deletion. Statements that read the table take a lower bound for the times of its rows.

mod enterprise_position;
mod epoch;
mod follow;
mod live;
mod outbox;
mod page;
mod role_lookup;
mod sequence;

pub use enterprise_position::{CheckedPosition, check_position, seq_at};
pub use epoch::{renew_epoch, renew_epoch_with_record};
pub use follow::{FeedChanges, FeedPosition, SessionChange, changes_since, head};
pub use live::{ChangeRoles, LiveChange, LiveChanges, events_of, live_changes, roles_at};
pub use outbox::{OldestOutboxRow, oldest};
pub use page::{EnterprisePosition, FeedPageRequest, FeedPart, previous_match, read_page};
pub use sequence::{SequencedBatch, end_leader, sequence, try_lead, try_lead_in_transaction};
