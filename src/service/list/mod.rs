//! Lists of sessions and of members, page by page.

mod cursor;
mod query;

pub use cursor::InvalidCursor;
pub use query::{InvalidPageSize, ListQuery, MembersQuery, PageSize};

use chrono::{DateTime, Utc};

use super::sessions::ensure_reached;
use super::{Caller, Error, Sessions};
use crate::domain::{Account, Member, Session, SessionId, Version};
use crate::repository::sessions::{self, BoundedSessions, ListRequest};
use crate::telemetry::trace_single_statement;

/// A page of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// The items in order. A page may be short or empty although more pages follow.
    pub items: Vec<T>,
    /// The cursor of the next page; `None` on the last page.
    pub next: Option<String>,
}

/// A page of a list of sessions.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedSessions {
    /// The sessions in order. A page may be short or empty although more pages follow.
    pub items: Vec<Session>,
    /// The cursor of the next page; `None` on the last page.
    pub next: Option<String>,
    /// The time up to which all pages together have every change. `None` in lists by creation
    /// without a time of change.
    pub complete_until: Option<DateTime<Utc>>,
}

/// The sessions of a request for many, as far as they fit into one result.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionsFound {
    /// The sessions, in the requested order.
    pub sessions: Vec<Session>,
    /// The sessions that exist, but were not read; also in this order.
    pub remaining: Vec<SessionId>,
}

impl Sessions {
    /// A page of the sessions of the caller's enterprise that match a filter.
    ///
    /// All pages together contain each session that matches the filter the whole time exactly once,
    /// even if sessions change meanwhile. A list that a time of change orders or bounds leaves out
    /// the sessions whose last change was later than the commit horizon. A page is short if its
    /// sessions have more than 10,000 members together (256 bytes of attributes count as one), or if
    /// too many sessions had to be examined.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list(&self, caller: &Caller, query: &ListQuery) -> Result<ListedSessions, Error> {
        let request = ListRequest {
            buin: caller.app().buin,
            filter: query.filter(),
            sort: query.sort(),
            after: query.after(),
            limit: query.size().get(),
            fixed_time: self.shared().clock.fixed_time(),
        };
        let pool = self.admit(caller).await?;
        let page = trace_single_statement("sessions.list", sessions::list(&pool, &request)).await?;
        let next = page.next.map(|key| query.cursor(&key));
        Ok(ListedSessions { items: page.sessions, next, complete_until: page.complete_until })
    }

    /// The sessions with these ids in the caller's enterprise, in the order of `ids`. Sessions that
    /// have more than 10,000 members together are not read at once: the result names the rest.
    ///
    /// # Errors
    /// The database fails.
    pub async fn get_many(
        &self,
        caller: &Caller,
        ids: &[SessionId],
    ) -> Result<SessionsFound, Error> {
        let pool = self.admit(caller).await?;
        let finding = sessions::find_bounded(&pool, caller.app().buin, ids);
        let found = trace_single_statement("sessions.find", finding).await?;
        let BoundedSessions { sessions, remaining } = found;
        Ok(SessionsFound { sessions, remaining })
    }

    /// A page of the members of a session, in their order. All pages together contain each account
    /// that stays a member exactly once, unless a change reorders all members. The page comes from
    /// the database; `min_version` is the version that the reader has seen.
    ///
    /// # Errors
    /// [`Error::SessionNotFound`], [`Error::VersionNotReached`], or the database fails.
    pub async fn members(
        &self,
        caller: &Caller,
        query: &MembersQuery,
        min_version: Option<Version>,
    ) -> Result<Page<Member>, Error> {
        let (buin, limit) = (caller.app().buin, query.size().get());
        let pool = self.admit(caller).await?;
        let reading = sessions::members(&pool, buin, query.id(), query.after(), limit);
        let page = trace_single_statement("sessions.members", reading).await?;
        let page = page.ok_or(Error::SessionNotFound)?;
        ensure_reached(min_version, page.version)?;
        Ok(Page { items: page.members, next: page.next.map(|key| query.cursor(&key)) })
    }

    /// One member of a session, from the database. `min_version` is the version that the reader has
    /// seen.
    ///
    /// # Errors
    /// [`Error::SessionNotFound`], [`Error::VersionNotReached`], [`Error::MemberNotFound`], or the
    /// database fails.
    pub async fn member(
        &self,
        caller: &Caller,
        id: SessionId,
        account: &Account,
        min_version: Option<Version>,
    ) -> Result<Member, Error> {
        let pool = self.admit(caller).await?;
        let reading = sessions::member(&pool, caller.app().buin, id, account);
        let found = trace_single_statement("sessions.member", reading).await?;
        let found = found.ok_or(Error::SessionNotFound)?;
        ensure_reached(min_version, found.version)?;
        found.member.ok_or_else(|| Error::MemberNotFound { account: account.clone() })
    }
}
