//! Compares the versions of a copy of sessions with the versions of the sessions.

use super::{SessionId, Version};

/// A session at one of its versions: as a copy has it, or as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionVersion {
    /// The session.
    pub id: SessionId,
    /// The version.
    pub version: Version,
}

#[cfg(test)]
impl SessionVersion {
    /// The sessions with these numbers as ids, at these versions.
    pub(crate) fn list_for_tests(versions: &std::collections::BTreeMap<u8, i64>) -> Vec<Self> {
        let item = |(id, version): (&u8, &i64)| Self {
            id: SessionId::new(uuid::Uuid::from_u128((*id).into())),
            version: Version::new(*version).unwrap(),
        };
        versions.iter().map(item).collect()
    }
}

/// The difference between a session and its copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The session has this later version.
    Changed(Version),
    /// The session has only this earlier version, so the copy is of another history: that of the
    /// database before a backup was restored.
    Behind(Version),
    /// The session has this version, and the copy has no such session.
    Missing(Version),
    /// The enterprise has no session with the id of the copy.
    Unknown,
}

/// A session that differs from its copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DifferingSession {
    /// The id of the session, or that of the copy if there is no session.
    pub id: SessionId,
    /// The difference.
    pub difference: Difference,
}

/// The difference between a copy and the current version of its session. `None` if they are equal.
#[must_use]
pub fn difference(copied: Version, current: Option<Version>) -> Option<Difference> {
    match current {
        None => Some(Difference::Unknown),
        Some(current) if current > copied => Some(Difference::Changed(current)),
        Some(current) if current < copied => Some(Difference::Behind(current)),
        Some(_) => None,
    }
}

/// The differences between a copy and all sessions of a range of ids. Both lists are in ascending
/// order and have each id once. So has the result.
#[must_use]
pub fn compare_ranges(
    copied: &[SessionVersion],
    current: &[SessionVersion],
) -> Vec<DifferingSession> {
    let mut found = Vec::new();
    let mut remaining = copied.iter().peekable();
    let unknown = |id| DifferingSession { id, difference: Difference::Unknown };
    for session in current {
        while let Some(copy) = remaining.next_if(|copy| copy.id < session.id) {
            found.push(unknown(copy.id));
        }
        let difference = match remaining.next_if(|copy| copy.id == session.id) {
            Some(copy) => difference(copy.version, Some(session.version)),
            None => Some(Difference::Missing(session.version)),
        };
        found.extend(difference.map(|difference| DifferingSession { id: session.id, difference }));
    }
    found.extend(remaining.map(|copy| unknown(copy.id)));
    found
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn each_difference_has_a_name() {
        let version = |number| Version::new(number).unwrap();
        for (copied, current, expected) in [
            (2, Some(2), None),
            (2, Some(3), Some(Difference::Changed(version(3)))),
            (2, Some(1), Some(Difference::Behind(version(1)))),
            (2, None, Some(Difference::Unknown)),
        ] {
            assert_eq!(difference(version(copied), current.map(version)), expected);
        }
    }

    proptest! {
        /// The rule, written without the order of the lists.
        #[test]
        fn ranges_differ_where_their_sessions_differ(
            copied in proptest::collection::btree_map(0_u8..40, 1_i64..4, 0..40),
            current in proptest::collection::btree_map(0_u8..40, 1_i64..4, 0..40),
        ) {
            let found = compare_ranges(&SessionVersion::list_for_tests(&copied), &SessionVersion::list_for_tests(&current));
            let ids: BTreeSet<u8> = copied.keys().chain(current.keys()).copied().collect();
            let expected: Vec<_> = ids
                .into_iter()
                .filter_map(|number| {
                    let version = |versions: &BTreeMap<u8, i64>| {
                        versions.get(&number).map(|version| Version::new(*version).unwrap())
                    };
                    let difference = match (version(&copied), version(&current)) {
                        (Some(copied), current) => difference(copied, current),
                        (None, current) => current.map(Difference::Missing),
                    };
                    let id = SessionId::new(Uuid::from_u128(number.into()));
                    difference.map(|difference| DifferingSession { id, difference })
                })
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
