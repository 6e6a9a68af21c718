//! The filter and the order of a list of sessions.

use chrono::{DateTime, Utc};
use compact_str::CompactString;

use super::text::{self, Invalid};
use super::{Account, State};

/// A filter of sessions: a session must meet every condition that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// This account is a member.
    pub member: Option<Account>,
    /// This account is the owner.
    pub owner: Option<Account>,
    /// The title contains this part.
    pub title: Option<TitlePart>,
    /// The session is in this state.
    pub state: Option<State>,
    /// The last change was at this time or later.
    pub updated_since: Option<DateTime<Utc>>,
}

/// A part of a title: 1 to 64 characters, no control characters. Case and the compatibility forms
/// of characters are ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TitlePart(CompactString);

/// The order of a list of sessions. Sessions of the same time are sorted by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// The time to sort by.
    pub by: SortKey,
    /// Whether the newest session comes first.
    pub newest_first: bool,
}

/// The field by which sessions are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// The time of creation.
    CreatedAt,
    /// The time of the last change.
    UpdatedAt,
}

impl Default for Sort {
    fn default() -> Self {
        Self { by: SortKey::CreatedAt, newest_first: true }
    }
}

impl TitlePart {
    /// Takes the text without trimming.
    ///
    /// # Errors
    /// [`Invalid`] if no title can contain this part.
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
