//! Lists of sessions and of members, page by page.

mod cursor;
mod query;

pub use cursor::InvalidCursor;
pub use query::{InvalidPageSize, ListQuery, MembersQuery, PageSize};

use std::collections::HashMap;

use super::{Caller, Error, Sessions};
use crate::domain::{Account, Member, Session, SessionId};
use crate::repository;
use crate::repository::sessions::{self, ListRequest};
use crate::telemetry::trace_single_statement;

/// A page of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// The items in order. A page may be short or empty although more pages follow.
    pub items: Vec<T>,
    /// The cursor of the next page; `None` on the last page.
    pub next: Option<String>,
}

impl Sessions {
    /// A page of the sessions of the caller's enterprise that match a filter.
    ///
    /// All pages together contain each session that matches the filter the whole time exactly once,
    /// even if sessions change meanwhile. A page is short if its sessions have more than 10,000
    /// members together, or if too many sessions had to be examined.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list(&self, caller: &Caller, query: &ListQuery) -> Result<Page<Session>, Error> {
        let request = ListRequest {
            buin: caller.app().buin,
            filter: query.filter(),
            sort: query.sort(),
            after: query.after(),
            limit: query.size().get(),
            now: self.shared().clock.now(),
        };
        let pool = self.admit(caller).await?;
        let page = trace_single_statement("sessions.list", sessions::list(&pool, &request)).await?;
        let next = page.next.map(|key| query.cursor(&key));
        Ok(Page { items: page.sessions, next })
    }

    /// The sessions with these ids in the caller's enterprise, in the order of `ids`.
    ///
    /// # Errors
    /// The database fails.
    pub async fn get_many(
        &self,
        caller: &Caller,
        ids: &[SessionId],
    ) -> Result<Vec<Session>, Error> {
        let pool = self.admit(caller).await?;
        let found = trace_single_statement("sessions.find", sessions::find(&*pool, ids)).await?;
        let found = found.into_iter().map(|(id, session)| Ok((id, session?)));
        let mut own: HashMap<_, _> = found.collect::<Result<_, repository::Error>>()?;
        own.retain(|_, session| session.buin == caller.app().buin);
        Ok(ids.iter().filter_map(|id| own.remove(id)).collect())
    }

    /// A page of the members of a session, in their order. All pages together contain each account
    /// that stays a member exactly once, unless a change reorders all members.
    ///
    /// # Errors
    /// [`Error::SessionNotFound`], or the database fails.
    pub async fn members(
        &self,
        caller: &Caller,
        query: &MembersQuery,
    ) -> Result<Page<Member>, Error> {
        let (buin, limit) = (caller.app().buin, query.size().get());
        let pool = self.admit(caller).await?;
        let reading = sessions::members(&pool, buin, query.id(), query.after(), limit);
        let page = trace_single_statement("sessions.members", reading).await?;
        let page = page.ok_or(Error::SessionNotFound)?;
        Ok(Page { items: page.members, next: page.next.map(|key| query.cursor(&key)) })
    }

    /// One member of a session.
    ///
    /// # Errors
    /// [`Error::SessionNotFound`], [`Error::MemberNotFound`], or the database fails.
    pub async fn member(
        &self,
        caller: &Caller,
        id: SessionId,
        account: &Account,
    ) -> Result<Member, Error> {
        let pool = self.admit(caller).await?;
        let reading = sessions::member(&pool, caller.app().buin, id, account);
        let found = trace_single_statement("sessions.member", reading).await?;
        found.ok_or(Error::SessionNotFound)?.ok_or(Error::MemberNotFound)
    }
}
