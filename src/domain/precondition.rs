//! The versions that a caller expects a session to have.

use std::fmt;

use super::Version;

/// The versions that a caller accepts: the session must have one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionPrecondition(Vec<Version>);

impl VersionPrecondition {
    /// One of `versions`. An empty list matches no version.
    #[must_use]
    pub fn any_of(versions: Vec<Version>) -> Self {
        Self(versions)
    }

    /// Whether `current` is one of the versions.
    #[must_use]
    pub fn is_satisfied_by(&self, current: Version) -> bool {
        self.0.contains(&current)
    }
}

impl From<Version> for VersionPrecondition {
    fn from(version: Version) -> Self {
        Self(vec![version])
    }
}

impl fmt::Display for VersionPrecondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, others)) = self.0.split_first() else {
            return f.write_str("a version that does not exist");
        };
        first.fmt(f)?;
        others.iter().try_for_each(|version| write!(f, " or {version}"))
    }
}
