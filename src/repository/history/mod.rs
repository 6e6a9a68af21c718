//! The history of a session: its events, and snapshots from which a replay starts.
//!
//! Every read has a bound in events and in bytes, which PostgreSQL checks: no more leaves the
//! database. The surprise: the database does not know the size of an event before it has read it, so
//! the statement reads event by event and stops when the next one does not fit.

mod events;
mod snapshots;
mod stored_event;

pub use events::{EventPart, HistoryRange, UpTo, read_events};
pub use snapshots::{find_snapshot, insert_snapshot};
pub(super) use stored_event::{StoredContent, StoredEvent};
