//! The filter and the order of a list of sessions.

use chrono::{DateTime, Utc};
use compact_str::CompactString;

use super::text::{self, Invalid};
use super::{Account, State};

/// Which sessions are looked for: those that meet all that is set. Without anything it is all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// This account is in them.
    pub member: Option<Account>,
    /// This account owns them.
    pub owner: Option<Account>,
    /// Their titles have this part.
    pub title: Option<TitlePart>,
    /// They are in this state.
    pub state: Option<State>,
    /// They changed at this time or later.
    pub updated_since: Option<DateTime<Utc>>,
}

/// A part of a title: 1 to 64 characters, no control characters. Upper and lower case are the same,
/// and so are the compatibility forms of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TitlePart(CompactString);

/// In which order sessions are listed. Sessions of the same time stand in the order of their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// By which of their times.
    pub by: SortKey,
    /// Whether the newest come first.
    pub newest_first: bool,
}

/// The field by which sessions are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// When they began.
    CreatedAt,
    /// When they last changed.
    UpdatedAt,
}

impl Default for Sort {
    fn default() -> Self {
        Self { by: SortKey::CreatedAt, newest_first: true }
    }
}

impl TitlePart {
    /// Takes a part as it stands; nothing is trimmed.
    ///
    /// # Errors
    /// [`Invalid`] says why no title can have such a part.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        text::check_length(text, super::Title::MAX)?;
        text::check_no_control(text)?;
        Ok(Self(text.into()))
    }

    /// The part as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
