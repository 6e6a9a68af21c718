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

#[cfg(test)]
mod tests {
    use crate::domain::{Attributes, State};

    /// The text of each file that has `before`, from there on.
    fn texts_after(before: &str) -> Vec<&'static str> {
        let files = [
            include_str!("list/sources.rs"),
            include_str!("list/statement.rs"),
            include_str!("read.rs"),
            include_str!("versions.rs"),
        ];
        files.into_iter().flat_map(|file| file.split(before).skip(1)).collect()
    }

    /// The macros of `sqlx` take literals only.
    #[test]
    fn attributes_count_as_members_in_every_statement() {
        let expected = format!("{} as members", Attributes::BYTES_PER_MEMBER);
        let found = texts_after("octet_length(attributes::text) / ");
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|text| text.starts_with(&expected)), "{expected}");
    }

    #[test]
    fn statements_by_state_have_every_state() {
        let states = State::ALL.map(|state| format!("'{}'", state.name())).join(", ");
        let expected = format!("{states}]) as known_state");
        let found = texts_after("from unnest(array[");
        assert_eq!(found.len(), 3);
        assert!(found.iter().all(|text| text.starts_with(&expected)), "{expected}");
    }
}
