//! The versions that a caller expects a session to have, or not to have.

use std::fmt;

use super::Version;

/// The versions that a caller accepts, and those that the caller excludes. The default accepts every
/// version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionPrecondition {
    /// The session must have one of them. `None` accepts every version.
    any_of: Option<Vec<Version>>,
    none_of: ExcludedVersions,
}

/// The versions that the session must not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExcludedVersions {
    /// These versions.
    Listed(Vec<Version>),
    /// Every version: no session meets the precondition.
    All,
}

impl Default for ExcludedVersions {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

impl VersionPrecondition {
    /// A precondition of both kinds. An empty list in `any_of` accepts no version.
    #[must_use]
    pub fn new(any_of: Option<Vec<Version>>, none_of: ExcludedVersions) -> Self {
        Self { any_of, none_of }
    }

    /// Whether the caller accepts the current version of a session, apart from the excluded ones.
    pub(super) fn accepts(&self, current: Version) -> bool {
        self.any_of.as_ref().is_none_or(|versions| versions.contains(&current))
    }

    /// Whether the caller excludes the current version of a session.
    pub(super) fn excludes(&self, current: Version) -> bool {
        match &self.none_of {
            ExcludedVersions::Listed(versions) => versions.contains(&current),
            ExcludedVersions::All => true,
        }
    }
}

impl From<Version> for VersionPrecondition {
    fn from(version: Version) -> Self {
        Self::new(Some(vec![version]), ExcludedVersions::default())
    }
}

/// The accepted versions.
impl fmt::Display for VersionPrecondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(any_of) = &self.any_of else { return f.write_str("any version") };
        let Some((first, others)) = any_of.split_first() else {
            return f.write_str("a version that does not exist");
        };
        first.fmt(f)?;
        others.iter().try_for_each(|version| write!(f, " or {version}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_and_excluded_versions_are_checked() {
        let version = |number| Version::new(number).unwrap();
        let listed = |numbers: &[i64]| numbers.iter().map(|number| version(*number)).collect();
        for (any_of, none_of, accepted, excluded) in [
            (None, ExcludedVersions::default(), true, false),
            (Some(&[4, 5][..]), ExcludedVersions::Listed(listed(&[4])), true, false),
            (Some(&[4]), ExcludedVersions::default(), false, false),
            (Some(&[]), ExcludedVersions::All, false, true),
            (Some(&[5]), ExcludedVersions::Listed(listed(&[1, 5])), true, true),
            (None, ExcludedVersions::All, true, true),
        ] {
            let precondition = VersionPrecondition::new(any_of.map(listed), none_of);
            let found = (precondition.accepts(version(5)), precondition.excludes(version(5)));
            assert_eq!(found, (accepted, excluded), "{precondition:?}");
        }
    }
}
