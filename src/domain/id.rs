//! Identifiers of enterprises, apps and sessions, and the version of a session.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::text::{self, Invalid, quoted};

/// An enterprise: a positive number, named `buin` in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Buin(i64);

impl Buin {
    /// The enterprise of the first app. The number has no meaning.
    pub const FIRST_APP: Self = Self(14_731_009);

    /// Accepts a positive number.
    ///
    /// # Errors
    /// [`Invalid::TooSmall`] for a number below 1.
    pub fn new(number: i64) -> Result<Self, Invalid> {
        text::at_least(1, number).map(Self)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }
}

impl FromStr for Buin {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::new(text.parse().map_err(|_| Invalid::NotANumber)?)
    }
}

impl fmt::Display for Buin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of an app within an enterprise: 1 to 64 of `A–Z a–z 0–9 . _ -`. It appears in every
/// envelope, in URLs and in file names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppId(Box<str>);

impl AppId {
    /// The maximum length, in characters.
    pub const MAX: usize = 64;

    /// A new id in the vendor's style: `yd` and 32 hexadecimal digits.
    #[must_use]
    pub fn generate() -> Self {
        Self(format!("yd{:032X}", rand::random::<u128>()).into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AppId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        text::check_identifier(text, Self::MAX)?;
        Ok(Self(text.into()))
    }
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of a session: a UUID. It is written in upper case and braces, and read in any usual form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(Uuid);

impl SessionId {
    /// The id with this UUID.
    #[must_use]
    pub fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The UUID.
    #[must_use]
    pub fn uuid(self) -> Uuid {
        self.0
    }

    /// One of `shards` (1 to 65,536) slots. Sessions spread evenly over the slots.
    #[must_use]
    pub fn shard(self, shards: usize) -> usize {
        // The last bytes of a UUID v7 are random.
        let [.., high, low] = self.0.into_bytes();
        usize::from(u16::from_be_bytes([high, low])) % shards
    }
}

impl FromStr for SessionId {
    type Err = Invalid;

    /// Parses a UUID with or without braces, with or without hyphens, in either case.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::NotAUuid { got: quoted(text) };
        let bare = match (text.strip_prefix('{'), text.ends_with('}')) {
            (Some(rest), true) => &rest[..rest.len() - 1],
            (None, false) => text,
            _ => return Err(invalid()),
        };
        match bare.len() {
            32 | 36 => Uuid::try_parse(bare).map(Self).map_err(|_| invalid()),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{:X}}}", self.0.hyphenated())
    }
}

/// The version of a session: 1 at creation, plus 1 for each update that changed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(i64);

impl Version {
    /// The version of a new session.
    pub const FIRST: Self = Self(1);

    /// Accepts a number from 1.
    ///
    /// # Errors
    /// [`Invalid::TooSmall`] for a number below 1.
    pub fn new(number: i64) -> Result<Self, Invalid> {
        text::at_least(1, number).map(Self)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }

    /// The version after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_id_is_parsed_in_every_form_and_printed_in_one() {
        let written = "{8AD595F3-73B3-4B56-90AF-F336F9222FC5}";
        for form in [
            written,
            "8AD595F3-73B3-4B56-90AF-F336F9222FC5",
            "{8ad595f3-73b3-4b56-90af-f336f9222fc5}",
            "8ad595f373b34b5690aff336f9222fc5",
            "{8AD595F373B34B5690AFF336F9222FC5}",
            "8aD595f3-73b3-4B56-90AF-f336f9222fc5",
        ] {
            assert_eq!(form.parse::<SessionId>().unwrap().to_string(), written, "{form}");
        }
    }

    #[test]
    fn non_uuid_is_no_session_id() {
        for form in [
            "",
            "{}",
            "{",
            "}",
            "{8AD595F3-73B3-4B56-90AF-F336F9222FC5",
            "8AD595F3-73B3-4B56-90AF-F336F9222FC5}",
            "{{8AD595F3-73B3-4B56-90AF-F336F9222FC5}}",
            "urn:uuid:8AD595F3-73B3-4B56-90AF-F336F9222FC5",
            "8AD595F3-73B3-4B56-90AF-F336F9222FCX",
            "8AD595F3-73B3-4B56-90AF-F336F9222FC",
            " 8AD595F373B34B5690AFF336F9222FC5",
            "8AD595F373B3-4B56-90AF-F336-F9222FC5",
            "会话",
        ] {
            let expected = Invalid::NotAUuid { got: quoted(form) };
            assert_eq!(form.parse::<SessionId>(), Err(expected), "{form}");
        }
    }

    #[test]
    fn numbers_start_at_one() {
        assert!(Buin::new(0).is_err());
        assert!(Version::new(0).is_err());
        assert_eq!(Version::FIRST.next().get(), 2);
        assert_eq!("14731009".parse::<Buin>().unwrap().get(), 14_731_009);
        assert_eq!("x".parse::<Buin>(), Err(Invalid::NotANumber));
    }

    #[test]
    fn app_id_has_plain_characters_only() {
        assert!("yd0123-A_b.c".parse::<AppId>().is_ok());
        assert_eq!("a b".parse::<AppId>(), Err(Invalid::Character(' ')));
        assert_eq!("".parse::<AppId>(), Err(Invalid::Empty));
        assert!("x".repeat(65).parse::<AppId>().is_err());
    }
}
