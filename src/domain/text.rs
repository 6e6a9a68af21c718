//! Titles, accounts and reasons: text from people, kept byte for byte.
//!
//! Lengths count Unicode scalar values, as the wire protocol does; they do not count bytes or
//! visible letters.

use std::borrow::Cow;
use std::fmt;

use compact_str::CompactString;

/// The reason why a value is invalid. Its text names the limit and the value; the caller adds the
/// name of the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The text is empty.
    #[error("at least 1 character, got 0")]
    Empty,
    /// The text is only white space.
    #[error("must not be blank")]
    Blank,
    /// The text is too long.
    #[error("at most {max} characters, got {got}")]
    TooLong {
        /// The limit, in characters.
        max: usize,
        /// The received length, in characters.
        got: usize,
    },
    /// A control character (Unicode category Cc, U+0000 among them).
    #[error("control character U+{:04X} is not allowed", u32::from(*.0))]
    Control(char),
    /// A character that this kind of value does not allow.
    #[error("character {0:?} is not allowed, only A-Z a-z 0-9 . _ -")]
    Character(char),
    /// A character that is not visible ASCII.
    #[error("character {0:?} is not allowed, only visible ASCII")]
    NotVisible(char),
    /// Not a whole number.
    #[error("must be a whole number")]
    NotANumber,
    /// A number below the minimum.
    #[error("at least {min}, got {got}")]
    TooSmall {
        /// The minimum.
        min: i64,
        /// The received value.
        got: i64,
    },
    /// Not a UUID in an accepted form.
    #[error("must be a UUID, got {got}")]
    NotAUuid {
        /// The received text, in quotes, escaped, and cut after 64 characters.
        got: String,
    },
}

/// A received text for an error: in quotes, escaped, and cut after 64 characters.
pub(crate) fn quoted(text: &str) -> String {
    const MAX_CHARS: usize = 64;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

impl Invalid {
    /// The violated rule without the value: the text for a caller who must not learn the value.
    #[must_use]
    pub fn without_value(&self) -> Cow<'static, str> {
        match self {
            Self::Empty => "at least 1 character".into(),
            Self::Blank => "must not be blank".into(),
            Self::TooLong { max, .. } => format!("at most {max} characters").into(),
            Self::Control(_) => "control characters are not allowed".into(),
            Self::Character(_) => "only A-Z a-z 0-9 . _ -".into(),
            Self::NotVisible(_) => "only visible ASCII".into(),
            Self::NotANumber => "must be a whole number".into(),
            Self::TooSmall { min, .. } => format!("at least {min}").into(),
            Self::NotAUuid { .. } => "must be a UUID".into(),
        }
    }
}

/// Checks that a text has 1 to `max` characters.
pub(super) fn check_length(text: &str, max: usize) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::Empty);
    }
    // A character takes at least one byte, so most texts need no counting.
    if text.len() > max {
        let got = text.chars().count();
        if got > max {
            return Err(Invalid::TooLong { max, got });
        }
    }
    Ok(())
}

/// Checks that a text is 1 to `max` of `A–Z a–z 0–9 . _ -`.
pub(super) fn check_identifier(text: &str, max: usize) -> Result<(), Invalid> {
    check_length(text, max)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match text.chars().find(|c| !allowed(*c)) {
        Some(c) => Err(Invalid::Character(c)),
        None => Ok(()),
    }
}

/// Accepts a number from `min`.
pub(super) fn at_least(min: i64, number: i64) -> Result<i64, Invalid> {
    if number < min {
        return Err(Invalid::TooSmall { min, got: number });
    }
    Ok(number)
}

/// Checks that a text has no control character.
pub(super) fn check_no_control(text: &str) -> Result<(), Invalid> {
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(Invalid::Control(c)),
        None => Ok(()),
    }
}

fn check_not_blank(text: &str) -> Result<(), Invalid> {
    if text.chars().all(char::is_whitespace) {
        return Err(Invalid::Blank);
    }
    Ok(())
}

/// The title of a session: 1 to 64 characters, not blank, no control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Title(CompactString);

impl Title {
    /// The maximum length, in characters.
    pub const MAX: usize = 64;

    /// Takes a title without trimming.
    ///
    /// # Errors
    /// [`Invalid`] names the violated rule.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        check_length(text, Self::MAX)?;
        check_no_control(text)?;
        check_not_blank(text)?;
        Ok(Self(text.into()))
    }

    /// The title as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An account of the enterprise: 1 to 64 characters, no control characters. Muster keeps no list of
/// accounts; the apps define them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Account(CompactString);

impl Account {
    /// The maximum length, in characters.
    pub const MAX: usize = 64;

    /// Takes an account unchanged; case and white space matter.
    ///
    /// # Errors
    /// [`Invalid`] names the violated rule.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        check_length(text, Self::MAX)?;
        check_no_control(text)?;
        Ok(Self(text.into()))
    }

    /// The account as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The reason of an operator, for the history: 1 to 256 characters, not blank, no control
/// characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(CompactString);

impl Reason {
    /// The maximum length, in characters.
    pub const MAX: usize = 256;

    /// Takes a reason without trimming.
    ///
    /// # Errors
    /// [`Invalid`] names the violated rule.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        check_length(text, Self::MAX)?;
        check_no_control(text)?;
        check_not_blank(text)?;
        Ok(Self(text.into()))
    }

    /// The reason as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_limit_counts_characters_not_bytes() {
        assert!(Title::new(&"项".repeat(64)).is_ok());
        assert_eq!(Title::new(&"项".repeat(65)), Err(Invalid::TooLong { max: 64, got: 65 }));
        assert!(Account::new(&"𠜎".repeat(64)).is_ok());
        assert!(Account::new(&"a".repeat(65)).is_err());
        assert!(Reason::new(&"a".repeat(256)).is_ok());
        assert_eq!(Reason::new(&"a".repeat(257)), Err(Invalid::TooLong { max: 256, got: 257 }));
    }

    #[test]
    fn blank_and_empty_titles_are_refused() {
        assert_eq!(Title::new(""), Err(Invalid::Empty));
        assert_eq!(Title::new(" \u{3000} "), Err(Invalid::Blank));
        assert_eq!(Title::new(" a ").unwrap().as_str(), " a ");
    }

    #[test]
    fn only_control_characters_are_refused() {
        for c in ['\0', '\n', '\u{7f}', '\u{85}'] {
            assert_eq!(Title::new(&format!("a{c}")), Err(Invalid::Control(c)));
            assert_eq!(Account::new(&format!("a{c}")), Err(Invalid::Control(c)));
        }
        for text in ["👩‍👩‍👧", "e\u{301}", "\u{202e}abc", "ﷺ", "\u{10ffff}"] {
            assert_eq!(Title::new(text).unwrap().as_str(), text);
        }
        assert_eq!(
            Title::new("a\0").unwrap_err().to_string(),
            "control character U+0000 is not allowed"
        );
    }
}
