//! Sessions, their members and their history.
//!
//! Each statement that writes takes any number of sessions and commits by itself: one round trip,
//! one fsync. It also writes the event of each change, the deliveries to subscribers and the
//! caller's idempotency key. The surprise: an update of members never reads the current members.
//! The change was decided for a version, and `version = expected_version` in the statement ensures
//! that this decision still applies.

mod columns;
mod insert;
mod list;
mod member_changes;
mod members;
mod provenance;
mod read;
mod stored;
mod titles;
mod update;
mod versions;

pub use insert::{NewSessionRecord, insert};
pub use list::{ListRequest, SeekKey, SessionListPage, list};
pub use members::{MemberLookup, MemberSeekKey, MembersPage, member, members};
pub use provenance::Provenance;
pub use read::{BoundedSessions, find, find_bounded, lock};
pub(super) use stored::{SessionRow, StoredChanges, account, version};
pub use update::{ChangeSet, VersionedChange, update_if_version, update_locked};
pub use versions::{find_differing, versions_after};
