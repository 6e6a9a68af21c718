//! Sessions, their members and their history.
//!
//! Each statement that writes takes any number of sessions and commits by itself: one round trip,
//! one fsync. A change writes its event, the deliveries to its subscribers and the caller's key
//! for retries in the same. The surprise: an update of members never asks who is in. It was decided
//! against a version, and `version = expected` in the statement makes that decision still true.

mod columns;
mod insert;
mod list;
mod members;
mod provenance;
mod read;
mod stored;
mod titles;
mod update;

pub use insert::{NewSessionRecord, insert};
pub use list::{
    InvalidSnapshot, ListRequest, ReadSnapshot, SeekKey, SessionListPage, TimeSeekKey,
    TransactionSnapshot, list,
};
pub use members::{MemberSeekKey, MembersPage, member, members};
pub use provenance::Provenance;
pub use read::{find, lock};
pub(super) use stored::{StoredChanges, account, version};
pub use update::{ChangeSet, VersionedChange, update_if_version, update_locked};
