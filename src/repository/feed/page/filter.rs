//! The choice of a source for a filter, and the filter as arguments of the statements.

use uuid::Uuid;

use super::request::FeedPageRequest;
use crate::domain::{Account, AppId, EventKind, FeedFilter, SessionId};

/// The rows that are read of a stream if its rows may not match.
pub(super) const WINDOW: i64 = 1_000;

/// A filter as arguments of the statements.
pub(super) struct Filter<'a> {
    pub(super) member: Option<&'a str>,
    pub(super) owner: Option<&'a str>,
    pub(super) kind: Option<&'a str>,
    pub(super) app: Option<&'a str>,
    pub(super) session: Option<Uuid>,
}

/// The source of candidates.
pub(super) enum Source {
    /// The feed of the enterprise.
    Feed,
    /// One session.
    Session,
    /// The sessions that the account is or was a member of.
    Member,
    /// The sessions that the account owns or owned.
    Owner,
    /// Each kind of each app.
    Origin,
}

impl<'a> Filter<'a> {
    pub(super) fn for_filter(filter: &'a FeedFilter) -> Self {
        Self {
            member: filter.member.as_ref().map(Account::as_str),
            owner: filter.owner.as_ref().map(Account::as_str),
            kind: filter.kind.map(EventKind::name),
            app: filter.app.as_ref().map(AppId::as_str),
            session: filter.session.map(SessionId::uuid),
        }
    }
}

impl Source {
    /// The source for a filter, and the number of rows to read if it has one stream.
    pub(super) fn choose(request: &FeedPageRequest<'_>) -> (Self, i64) {
        let FeedFilter { member, owner, session, kind, app } = request.filter;
        let has_origin = kind.is_some() || app.is_some();
        let has_account = member.is_some() || owner.is_some();
        let full_page = to_i64(request.limit).saturating_add(1);
        if session.is_some() {
            let is_exact = !has_origin && !has_account;
            (Self::Session, if is_exact { full_page } else { full_page.max(WINDOW) })
        } else if has_account {
            let source = if member.is_some() { Self::Member } else { Self::Owner };
            (source, full_page.max(WINDOW))
        } else if has_origin {
            (Self::Origin, full_page)
        } else {
            (Self::Feed, full_page)
        }
    }

    /// The sources each of which has every change that matches a filter. If there is one, each of its
    /// streams has the last such change at its end.
    pub(super) fn covering(filter: &FeedFilter) -> impl Iterator<Item = Self> + use<> {
        let FeedFilter { member, owner, session, kind, app } = filter;
        let has_origin = kind.is_some() || app.is_some();
        let has_account = member.is_some() || owner.is_some();
        let sources = [
            // The sessions of an account are then only this one.
            (session.is_some() && !has_account).then_some(Self::Session),
            member.is_some().then_some(Self::Member),
            owner.is_some().then_some(Self::Owner),
            has_origin.then_some(Self::Origin),
            filter.is_empty().then_some(Self::Feed),
        ];
        sources.into_iter().flatten()
    }
}

pub(super) fn to_i64(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
