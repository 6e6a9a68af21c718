//! The parameters of lists: filter, order, page size, cursor.

use super::cursor::{self, InvalidCursor, QueryFingerprint};
use crate::domain::{SessionFilter, SessionId, Sort};
use crate::repository::sessions::{MemberSeekKey, SeekKey};

/// The maximum number of items of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize(u16);

/// A page size that is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be from 1 to {max}, got {got}", max = PageSize::MAX)]
pub struct InvalidPageSize {
    /// The size in the request.
    pub got: i64,
}

/// A request for a page of sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    filter: SessionFilter,
    sort: Sort,
    size: PageSize,
    after: Option<SeekKey>,
}

/// A request for a page of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembersQuery {
    id: SessionId,
    size: PageSize,
    after: Option<MemberSeekKey>,
}

impl PageSize {
    /// The maximum size.
    pub const MAX: u16 = 200;
    /// The size if the request has no size.
    pub const DEFAULT: Self = Self(50);

    /// A size from 1 to [`PageSize::MAX`].
    ///
    /// # Errors
    /// [`InvalidPageSize`] if the number is out of range.
    pub fn new(number: i64) -> Result<Self, InvalidPageSize> {
        match u16::try_from(number) {
            Ok(size @ 1..=Self::MAX) => Ok(Self(size)),
            _ => Err(InvalidPageSize { got: number }),
        }
    }

    /// The size as a number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl ListQuery {
    /// The maximum length of a cursor of any list, in characters.
    pub const MAX_CURSOR: usize = cursor::MAX_BYTES;

    /// A query for the first page, or for the page of a cursor. Pages of one list may differ in
    /// size.
    ///
    /// # Errors
    /// [`InvalidCursor`] if the cursor is malformed, or belongs to another filter or order.
    pub fn new(
        filter: SessionFilter,
        sort: Sort,
        size: PageSize,
        cursor: Option<&str>,
    ) -> Result<Self, InvalidCursor> {
        let fingerprint = QueryFingerprint::for_sessions(&filter, sort);
        let after = cursor.map(|text| cursor::decode(&fingerprint, sort.by, text)).transpose()?;
        Ok(Self { filter, sort, size, after })
    }

    pub(super) fn filter(&self) -> &SessionFilter {
        &self.filter
    }

    pub(super) fn sort(&self) -> Sort {
        self.sort
    }

    pub(super) fn size(&self) -> PageSize {
        self.size
    }

    pub(super) fn after(&self) -> Option<&SeekKey> {
        self.after.as_ref()
    }

    /// The cursor for the page after `seek_key`.
    pub(super) fn cursor(&self, seek_key: &SeekKey) -> String {
        cursor::encode(&QueryFingerprint::for_sessions(&self.filter, self.sort), seek_key)
    }
}

impl MembersQuery {
    /// A query for the first page, or for the page of a cursor. Pages of one list may differ in
    /// size.
    ///
    /// # Errors
    /// [`InvalidCursor`] if the cursor is malformed, or belongs to another session.
    pub fn new(id: SessionId, size: PageSize, cursor: Option<&str>) -> Result<Self, InvalidCursor> {
        let fingerprint = QueryFingerprint::for_members(id);
        let after = cursor.map(|text| cursor::decode_member(&fingerprint, text)).transpose()?;
        Ok(Self { id, size, after })
    }

    pub(super) fn id(&self) -> SessionId {
        self.id
    }

    pub(super) fn size(&self) -> PageSize {
        self.size
    }

    pub(super) fn after(&self) -> Option<MemberSeekKey> {
        self.after
    }

    /// The cursor for the page after `seek_key`.
    pub(super) fn cursor(&self, seek_key: &MemberSeekKey) -> String {
        cursor::encode_member(&QueryFingerprint::for_members(self.id), seek_key)
    }
}
