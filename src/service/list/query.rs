//! What somebody asks of a list: which, in which order, how many, behind which page.

use super::cursor::{self, BadCursor, List};
use crate::domain::{Filter, SessionId, Sort};
use crate::repository::sessions::{Mark, MemberMark};

/// The most items of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize(u16);

/// A number of items that no page can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be from 1 to {max}, got {got}", max = PageSize::MAX)]
pub struct WrongPageSize {
    /// What came.
    pub got: i64,
}

/// A page of sessions that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    filter: Filter,
    sort: Sort,
    size: PageSize,
    after: Option<Mark>,
}

/// A page of members that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembersQuery {
    id: SessionId,
    size: PageSize,
    after: Option<MemberMark>,
}

impl PageSize {
    /// The most.
    pub const MAX: u16 = 200;
    /// What is usual if nobody says.
    pub const DEFAULT: Self = Self(50);

    /// Takes a number from 1 to [`PageSize::MAX`].
    ///
    /// # Errors
    /// [`WrongPageSize`] for any other.
    pub fn new(number: i64) -> Result<Self, WrongPageSize> {
        match u16::try_from(number) {
            Ok(size @ 1..=Self::MAX) => Ok(Self(size)),
            _ => Err(WrongPageSize { got: number }),
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl ListQuery {
    /// The most characters of a cursor, whatever the list.
    pub const MAX_CURSOR: usize = cursor::MOST;

    /// The first page, or with the cursor of a page the one behind that. The size may be another
    /// on each page.
    ///
    /// # Errors
    /// [`BadCursor`] if the cursor is none, or was given for another filter or order.
    pub fn new(
        filter: Filter,
        sort: Sort,
        size: PageSize,
        cursor: Option<&str>,
    ) -> Result<Self, BadCursor> {
        let list = List::of_sessions(&filter, sort);
        let after = cursor.map(|text| cursor::mark(&list, sort.by, text)).transpose()?;
        Ok(Self { filter, sort, size, after })
    }

    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    pub(super) fn sort(&self) -> Sort {
        self.sort
    }

    pub(super) fn size(&self) -> PageSize {
        self.size
    }

    pub(super) fn after(&self) -> Option<&Mark> {
        self.after.as_ref()
    }

    /// The cursor of a page of this list that ends at `mark`.
    pub(super) fn cursor(&self, mark: &Mark) -> String {
        cursor::of_mark(&List::of_sessions(&self.filter, self.sort), mark)
    }
}

impl MembersQuery {
    /// The first page, or with the cursor of a page the one behind that. The size may be another
    /// on each page.
    ///
    /// # Errors
    /// [`BadCursor`] if the cursor is none, or was given for another session.
    pub fn new(id: SessionId, size: PageSize, cursor: Option<&str>) -> Result<Self, BadCursor> {
        let list = List::of_members(id);
        let after = cursor.map(|text| cursor::member_mark(&list, text)).transpose()?;
        Ok(Self { id, size, after })
    }

    pub(super) fn id(&self) -> SessionId {
        self.id
    }

    pub(super) fn size(&self) -> PageSize {
        self.size
    }

    pub(super) fn after(&self) -> Option<MemberMark> {
        self.after
    }

    /// The cursor of a page of this list that ends at `mark`.
    pub(super) fn cursor(&self, mark: &MemberMark) -> String {
        cursor::of_member_mark(&List::of_members(self.id), mark)
    }
}
