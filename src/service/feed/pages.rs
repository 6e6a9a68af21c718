//! The changes of an enterprise, page by page.

use std::mem;
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::cursor::{FeedCursor, FilterDigest, LastMatch};
use crate::domain::{Buin, FeedEvent, FeedFilter, FeedSeq, Session, SessionId, Version};
use crate::repository::Pool;
use crate::repository::feed::{self, EnterprisePosition, FeedPageRequest, FeedPart};
use crate::service::{Caller, Error, Sessions};
use crate::telemetry::trace_single_statement;

/// The maximum size of the changes of a page, in bytes of JSON. One change may exceed it.
const MAX_PAGE_BYTES: usize = 1024 * 1024;

/// The position at which a page starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedStart {
    /// After the last change.
    Head,
    /// Before the first change.
    Beginning,
    /// Before the first change that is later than this time.
    Time(DateTime<Utc>),
    /// At a cursor.
    Cursor(FeedCursor),
    /// At the begin of a snapshot: the present sessions, then the changes from now on.
    Snapshot,
}

/// A request for a page of changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedQuery {
    /// The position at which the page starts.
    pub start: FeedStart,
    /// Selects the changes.
    pub filter: FeedFilter,
    /// The maximum number of changes or sessions.
    pub limit: usize,
    /// Whether each change comes with the session after it.
    pub include_session: bool,
}

/// A change as a client gets it.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedItem {
    /// The change.
    pub event: FeedEvent,
    /// The change before it in the filtered stream; 0 if there is no earlier one.
    pub prev_seq: FeedSeq,
    /// The position after the change.
    pub cursor: FeedCursor,
    /// The session after the change, if the query asks for it.
    pub session: Option<Session>,
}

/// The progress of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotPhase {
    /// More sessions follow.
    Running,
    /// The sessions of this page are the last ones. Changes follow.
    Done,
}

/// A page of changes, or of the sessions of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedPage {
    /// The changes, in order. A page may be short or empty although more changes follow.
    pub events: Vec<FeedItem>,
    /// The sessions, in the order of their ids, during a snapshot.
    pub sessions: Vec<Session>,
    /// The progress, during a snapshot.
    pub snapshot: Option<SnapshotPhase>,
    /// The position after the page.
    pub next: FeedCursor,
    /// The last change of the enterprise, whether it matches the filter or not.
    pub head: FeedSeq,
    /// The age of the first change after the page.
    pub lag: Duration,
    /// Whether no change follows the page.
    pub caught_up: bool,
}

/// The start of a page of changes, after the seq that the database knows for it.
struct PageStart {
    after: FeedSeq,
    /// The cursor, which must be of this history.
    cursor: Option<FeedCursor>,
}

impl Sessions {
    /// A page of the changes of the caller's enterprise, or of the sessions of a snapshot.
    ///
    /// # Errors
    /// [`Error::CursorExpired`], or the database fails.
    pub async fn feed_page(&self, caller: &Caller, query: FeedQuery) -> Result<FeedPage, Error> {
        match query.start {
            FeedStart::Snapshot => self.snapshot_page(caller, &query, None).await,
            FeedStart::Cursor(cursor) if cursor.snapshot.is_some() => {
                self.snapshot_page(caller, &query, Some(cursor)).await
            }
            _ => self.changes_page(caller, &query).await,
        }
    }

    /// The last change up to `seq` that matches the filter; 0 if no change matches.
    ///
    /// # Errors
    /// The database fails.
    pub async fn last_match(
        &self,
        caller: &Caller,
        filter: &FeedFilter,
        seq: FeedSeq,
    ) -> Result<FeedSeq, Error> {
        let (buin, max_bytes) = (caller.app().buin, MAX_PAGE_BYTES);
        let pool = self.admit(caller).await?;
        let request = FeedPageRequest { buin, filter, after: seq, limit: 1, max_bytes };
        let finding = feed::previous_match(&pool, request);
        Ok(trace_single_statement("feed.previous", finding).await?)
    }

    async fn changes_page(&self, caller: &Caller, query: &FeedQuery) -> Result<FeedPage, Error> {
        let (buin, deadline) = (caller.app().buin, self.shared().deadline_for(caller));
        let pool = self.admit(caller).await?;
        let PageStart { after, cursor } = find_start(&pool, buin, query.start).await?;
        let all = FeedFilter::default();
        // A page that starts at the head has no changes, so its filter does not matter: without one, the
        // statement is cheap.
        let filter = if query.start == FeedStart::Head { &all } else { &query.filter };
        let (limit, max_bytes) = (query.limit, MAX_PAGE_BYTES);
        let request = FeedPageRequest { buin, filter, after, limit, max_bytes };
        let part = trace_single_statement("feed.page", feed::read_page(&pool, request)).await?;
        let epoch = epoch_number(part.epoch);
        if let Some(cursor) = cursor {
            ensure_valid(&cursor, epoch, part.start)?;
        }
        let digest = FilterDigest::for_filter(&query.filter);
        let known = known_match(query, after, cursor.and_then(|cursor| cursor.last_match(digest)));
        let previous = match (known, part.events.is_empty()) {
            (None, false) => {
                let finding = feed::previous_match(&pool, request);
                Some(trace_single_statement("feed.previous", finding).await?)
            }
            _ => known,
        };
        let FeedPart { events, bytes, next, head, lag, .. } = part;
        self.work_turns().wait(bytes).await;
        let mut page = FeedPage {
            events: items(events, previous.unwrap_or_default(), epoch, digest),
            sessions: Vec::new(),
            snapshot: None,
            next: cursor_at(next, epoch),
            head: head.seq,
            lag,
            caught_up: next.seq == head.seq,
        };
        let last_match = page.events.last().map(|item| item.event.seq).or(previous);
        let is_all = query.filter.is_empty();
        let last_match = if is_all { Some(page.next.seq) } else { last_match };
        page.next.last_match = last_match.map(|seq| LastMatch { filter: digest, seq });
        if query.include_session {
            let included = self.include_sessions(&pool, buin, &mut page.events, deadline).await?;
            if let Some(cut) = included.cut {
                let age = self.shared().clock.now().signed_duration_since(cut.at);
                page.lag = age.to_std().unwrap_or_default();
                page.caught_up = false;
                page.next = page.events.last().map_or(page.next, |item| item.cursor);
            }
            drop(pool);
            self.work_turns().wait(included.bytes).await;
        }
        Ok(page)
    }
}

/// The position at which a page of changes starts.
async fn find_start(pool: &Pool, buin: Buin, start: FeedStart) -> Result<PageStart, Error> {
    let (after, cursor) = match start {
        FeedStart::Cursor(cursor) => (cursor.seq, Some(cursor)),
        FeedStart::Time(at) => {
            let finding = feed::seq_at(pool, buin, at);
            (trace_single_statement("feed.seq_at", finding).await?, None)
        }
        FeedStart::Beginning | FeedStart::Snapshot => (FeedSeq::BEGINNING, None),
        FeedStart::Head => (FeedSeq::LAST, None),
    };
    Ok(PageStart { after, cursor })
}

/// The last change of the filtered stream up to `after`, if it can be known without the database.
fn known_match(query: &FeedQuery, after: FeedSeq, noted: Option<FeedSeq>) -> Option<FeedSeq> {
    match query.start {
        FeedStart::Head => None,
        _ if after == FeedSeq::BEGINNING || query.filter.is_empty() => Some(after),
        _ => noted,
    }
}

/// The number of a line of history in cursors.
pub(super) fn epoch_number(epoch: Uuid) -> u64 {
    epoch.as_u64_pair().0
}

/// Checks that the change at a cursor is the one that it was made for.
pub(super) fn ensure_valid(
    cursor: &FeedCursor,
    epoch: u64,
    change: Option<(SessionId, Version)>,
) -> Result<(), Error> {
    let expected = match (cursor.seq, change) {
        (FeedSeq::BEGINNING, _) => cursor.fingerprint,
        (_, Some((session, version))) => FeedCursor::fingerprint(session, version),
        (_, None) => return Err(Error::CursorExpired),
    };
    if cursor.epoch == epoch && cursor.fingerprint == expected {
        Ok(())
    } else {
        Err(Error::CursorExpired)
    }
}

pub(super) fn cursor_at(position: EnterprisePosition, epoch: u64) -> FeedCursor {
    let EnterprisePosition { seq, change } = position;
    let fingerprint = change.map(|(session, version)| FeedCursor::fingerprint(session, version));
    let fingerprint = fingerprint.unwrap_or_default();
    FeedCursor { epoch, seq, fingerprint, last_match: None, snapshot: None }
}

/// The changes, each with the one before it in the filtered stream.
fn items(
    events: Vec<FeedEvent>,
    mut prev_seq: FeedSeq,
    epoch: u64,
    filter: FilterDigest,
) -> Vec<FeedItem> {
    let item = |event: FeedEvent| {
        let seq = event.seq;
        let change = Some((event.session_id, event.event.version));
        let last_match = Some(LastMatch { filter, seq });
        let cursor =
            FeedCursor { last_match, ..cursor_at(EnterprisePosition { seq, change }, epoch) };
        let prev_seq = mem::replace(&mut prev_seq, seq);
        FeedItem { event, prev_seq, cursor, session: None }
    };
    events.into_iter().map(item).collect()
}
