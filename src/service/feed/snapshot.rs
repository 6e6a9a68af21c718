//! The begin of a mirror: the present sessions page by page, in the order of their ids, and the position
//! from which changes follow.
//!
//! The position is the end of the feed before the first page. A session that changes while the pages are
//! read may be shown before or after the change, and the change follows the snapshot.

use std::slice;
use std::time::Duration;

use super::cursor::FeedCursor;
use super::pages::{FeedPage, FeedQuery, SnapshotPhase, cursor_at, ensure_valid, epoch_number};
use crate::domain::{Buin, FeedFilter, FeedSeq, Session, SessionFilter, SessionId, Sort, SortKey};
use crate::repository::Pool;
use crate::repository::feed;
use crate::repository::sessions::{self, ListRequest, SeekKey};
use crate::service::{Caller, Error, PageSize, Sessions};
use crate::telemetry::trace_single_statement;

impl Sessions {
    /// A page of the sessions of a snapshot.
    ///
    /// # Errors
    /// [`Error::CursorExpired`], or the database fails.
    pub(super) async fn snapshot_page(
        &self,
        caller: &Caller,
        query: &FeedQuery,
        cursor: Option<FeedCursor>,
    ) -> Result<FeedPage, Error> {
        let buin = caller.app().buin;
        let pool = self.admit(caller).await?;
        // The position is read before the sessions, so each session has all changes up to it.
        let seq = cursor.map_or(FeedSeq::BEGINNING, |cursor| cursor.seq);
        let reading = feed::check_position(&pool, buin, seq);
        let position = trace_single_statement("feed.position", reading).await?;
        let epoch = epoch_number(position.epoch);
        let start = match cursor {
            Some(cursor) => {
                ensure_valid(&cursor, epoch, position.change)?;
                FeedCursor { snapshot: None, ..cursor }
            }
            None => cursor_at(position.head, epoch),
        };
        let after = cursor.and_then(|cursor| cursor.snapshot);
        let (sessions, last) = read_snapshot(&pool, buin, query, after).await?;
        drop(pool);
        self.work_turns().wait(sessions.iter().map(Session::size).sum()).await;
        let phase = if last.is_some() { SnapshotPhase::Running } else { SnapshotPhase::Done };
        let is_current = start.seq == position.head.seq;
        Ok(FeedPage {
            events: Vec::new(),
            sessions,
            snapshot: Some(phase),
            next: FeedCursor { snapshot: last, ..start },
            head: position.head.seq,
            lag: if is_current { Duration::ZERO } else { position.lag },
            caught_up: is_current && last.is_none(),
        })
    }
}

/// The sessions of a page of a snapshot, and the last of them if more follow.
async fn read_snapshot(
    pool: &Pool,
    buin: Buin,
    query: &FeedQuery,
    after: Option<SessionId>,
) -> Result<(Vec<Session>, Option<SessionId>), Error> {
    let FeedFilter { member, owner, session, .. } = &query.filter;
    if let Some(id) = session {
        let finding = sessions::find_bounded(pool, buin, slice::from_ref(id));
        let mut found = trace_single_statement("sessions.find", finding).await?.sessions;
        found.retain(|session| {
            member.as_ref().is_none_or(|account| session.members.contains(account))
                && owner.as_ref().is_none_or(|account| session.owner == *account)
        });
        return Ok((found, None));
    }
    let filter =
        SessionFilter { member: member.clone(), owner: owner.clone(), ..SessionFilter::default() };
    let after = after.map(|id| SeekKey { id, changed_at: None, complete_until: None });
    let request = ListRequest {
        buin,
        filter: &filter,
        sort: Sort { by: SortKey::CreatedAt, newest_first: false },
        after: after.as_ref(),
        limit: u16::try_from(query.limit).unwrap_or(PageSize::MAX).min(PageSize::MAX),
        fixed_time: None,
    };
    let page = trace_single_statement("sessions.list", sessions::list(pool, &request)).await?;
    Ok((page.sessions, page.next.map(|key| key.id)))
}
