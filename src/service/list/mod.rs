//! Finding sessions, and who is in one.

mod cursor;
mod query;

pub use cursor::BadCursor;
pub use query::{ListQuery, MembersQuery, PageSize, WrongPageSize};

use std::collections::HashMap;

use super::{Caller, Error, Sessions};
use crate::domain::{Account, Member, Session, SessionId};
use crate::repository;
use crate::repository::sessions::{self, Search};
use crate::telemetry::own_statement;

/// A page of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing<T> {
    /// In order. Fewer than asked for, or none, does not mean that there are no more.
    pub items: Vec<T>,
    /// What to ask with for the next page; none if there are no more.
    pub next: Option<String>,
}

impl Sessions {
    /// A page of the sessions of the caller's enterprise that meet a filter.
    ///
    /// Whoever turns the pages gets every session that met the filter all the time, once, as it is
    /// by then, whatever changes meanwhile. A page is short if its sessions have more than 10,000
    /// members together, or if too many had to be looked at.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list(
        &self,
        caller: &Caller,
        query: &ListQuery,
    ) -> Result<Listing<Session>, Error> {
        let search = Search {
            buin: caller.app().buin,
            filter: query.filter(),
            sort: query.sort(),
            after: query.after(),
            most: query.size().get(),
            now: self.shared().clock.now(),
        };
        let pool = self.pool(caller)?;
        let page = own_statement("sessions.list", sessions::list(&pool, &search)).await?;
        let next = page.next.map(|mark| query.cursor(&mark));
        Ok(Listing { items: page.sessions, next })
    }

    /// Those of these sessions that the caller's enterprise has, in the order in which they are
    /// asked for.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn get_many(
        &self,
        caller: &Caller,
        ids: &[SessionId],
    ) -> Result<Vec<Session>, Error> {
        let pool = self.pool(caller)?;
        let found = own_statement("sessions.find", sessions::find(&*pool, ids)).await?;
        let found = found.into_iter().map(|(id, session)| Ok((id, session?)));
        let mut own: HashMap<_, _> = found.collect::<Result<_, repository::Error>>()?;
        own.retain(|_, session| session.buin == caller.app().buin);
        Ok(ids.iter().filter_map(|id| own.remove(id)).collect())
    }

    /// A page of the members of a session, in their order. Whoever stays in it while the pages are
    /// turned comes once, unless a change gives all members other places.
    ///
    /// # Errors
    /// [`Error::NoSuchSession`], or when the database fails.
    pub async fn members(
        &self,
        caller: &Caller,
        query: &MembersQuery,
    ) -> Result<Listing<Member>, Error> {
        let (buin, most) = (caller.app().buin, query.size().get());
        let pool = self.pool(caller)?;
        let reading = sessions::members(&pool, buin, query.id(), query.after(), most);
        let page = own_statement("sessions.members", reading).await?;
        let page = page.ok_or(Error::NoSuchSession)?;
        Ok(Listing { items: page.members, next: page.next.map(|mark| query.cursor(&mark)) })
    }

    /// One member of a session.
    ///
    /// # Errors
    /// [`Error::NoSuchSession`], [`Error::NoSuchMember`], or when the database fails.
    pub async fn member(
        &self,
        caller: &Caller,
        id: SessionId,
        account: &Account,
    ) -> Result<Member, Error> {
        let pool = self.pool(caller)?;
        let reading = sessions::member(&pool, caller.app().buin, id, account);
        let found = own_statement("sessions.member", reading).await?;
        found.ok_or(Error::NoSuchSession)?.ok_or(Error::NoSuchMember)
    }
}
