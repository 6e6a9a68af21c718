//! Versions of PostgreSQL.

use std::fmt;
use std::str::FromStr;

/// The oldest major version that Muster supports.
pub(super) const MIN_MAJOR: u32 = 15;

/// A version of PostgreSQL, such as 17.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PostgresVersion {
    /// Data of one major version cannot be read by another.
    pub major: u32,
    /// The number of the fix release; 0 for a version that is not released yet.
    pub minor: u32,
}

impl fmt::Display for PostgresVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A text that is not a version of PostgreSQL.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` names no PostgreSQL version")]
pub struct InvalidVersion(String);

impl FromStr for PostgresVersion {
    type Err = InvalidVersion;

    /// Parses the output of `postgres --version`: `postgres (PostgreSQL) 17.6 (Debian …)`, or
    /// `18beta1`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
        let parse = || {
            let (_, version) = text.split_once("(PostgreSQL) ")?;
            let major = digits(version);
            let minor = version[major.len()..].strip_prefix('.').map(digits);
            Some(Self {
                major: major.parse().ok()?,
                minor: minor.map_or(Some(0), |text| text.parse().ok())?,
            })
        };
        parse().ok_or_else(|| InvalidVersion(text.trim().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_parsed() {
        let cases = [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some((15, 18))),
            ("postgres (PostgreSQL) 18beta1\n", Some((18, 0))),
            ("postgres (PostgreSQL) 17.6\n", Some((17, 6))),
            ("postgres (PostgreSQL) soon\n", None),
            ("cat (GNU coreutils) 9.1\n", None),
        ];
        for (text, expected) in cases {
            let read =
                text.parse::<PostgresVersion>().ok().map(|version| (version.major, version.minor));
            assert_eq!(read, expected, "{text}");
        }
    }
}
