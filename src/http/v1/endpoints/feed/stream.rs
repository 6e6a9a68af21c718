//! `GET /v1/events` as a stream of events: the changes as they are made.
//!
//! A stream reads pages until it has reached the present, and then gets each change from the hub of
//! this server. It reads pages again whenever the hub says that it is behind. An event has the same
//! bytes either way.
//!
//! A stream has no task of its own: it is polled while its client reads. It ends by
//! itself when the server stops, when its key is not valid any more, and when its client reads too
//! slowly. The client then asks again with the last id.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, http::Method, web};
use futures_util::{FutureExt as _, stream};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::stream_log::{StreamEnd, StreamLog};
use super::stream_part::StreamPart;
use super::view;
use crate::domain::{FeedEvent, FeedSeq};
use crate::http::transport::{RequestClient, ServerDrain};
use crate::http::v1::extract::reading_caller::ReadingCaller;
use crate::http::v1::problem::Problem;
use crate::http::v1::render::event_stream;
use crate::service::{
    Caller, Error, FeedCursor, FeedPage, FeedQuery, FeedStart, Sessions, SnapshotPhase,
    StreamPosition, StreamStep, StreamUpdate, Subscription,
};

/// An example of a stream, for the description.
pub(super) const SAMPLE: &str = ": changes follow\n\nid: AQECAwQFBgcIAAAAAAAAAAcBAgME\n\
    event: bookmark\ndata: {\"cursor\":\"AQECAwQFBgcIAAAAAAAAAAcBAgME\"}\n\n";
/// The interval at which a stream checks its key.
const TICK: Duration = Duration::from_secs(1);
/// The number of ticks without an id after which a bookmark is sent. A bookmark follows within 5 s.
const BOOKMARK_TICKS: u32 = 4;
/// The number of changes that a stream reads at a time, at first and at most.
const FIRST_LIMIT: usize = 50;
const MAX_LIMIT: usize = 200;

#[derive(Clone, Copy, Debug)]
enum StreamPhase {
    /// The stream reads pages.
    CatchingUp,
    /// The stream gets new changes.
    Live,
    Ended,
}

/// The state of a stream. It does not keep the request, which would take more memory than all the rest.
struct FeedStream {
    reader: ReadingCaller,
    client: RequestClient,
    drain: ServerDrain,
    sessions: web::Data<Sessions>,
    subscription: Subscription,
    query: FeedQuery,
    position: StreamPosition,
    phase: StreamPhase,
    /// Events that wait for the next part.
    part: StreamPart,
    ticks: Interval,
    ticks_without_id: u32,
    log: StreamLog,
}

/// The response to a request that asks for a stream.
///
/// # Errors
/// If the first page cannot be read, or the caller has too many streams.
pub(super) async fn respond(
    http: HttpRequest,
    sessions: web::Data<Sessions>,
    caller: &Caller,
    mut query: FeedQuery,
) -> Result<HttpResponse, Problem> {
    query.limit = FIRST_LIMIT;
    let render = (!query.include_session).then_some(render_shared as fn(&FeedEvent) -> Vec<u8>);
    let subscription = sessions.subscribe(caller, query.filter.clone(), render)?;
    subscription.listen();
    let page = sessions.feed_page(caller, query.clone()).await?;
    if http.method() == Method::HEAD {
        return Ok(event_stream::respond(None::<stream::Empty<Vec<u8>>>));
    }
    let mut ticks = interval_at(Instant::now() + TICK, TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let position = StreamPosition::after(page.next, &query.filter);
    let log = StreamLog::new(&http);
    let mut stream = Box::new(FeedStream {
        reader: ReadingCaller::new(&http)?,
        client: RequestClient::new(&http),
        drain: ServerDrain::from_request(&http),
        sessions,
        subscription,
        query,
        position,
        phase: StreamPhase::CatchingUp,
        part: StreamPart::default(),
        ticks,
        ticks_without_id: 0,
        log,
    });
    // The client and the proxies between learn at once that the stream is open.
    stream.part.add_comment("changes follow");
    stream.add_page(&page);
    if page.events.is_empty() && page.sessions.is_empty() {
        stream.add_bookmark();
    }
    let parts = stream::unfold(stream, |mut stream| async {
        let part = stream.next_part().await?;
        Some((part, stream))
    });
    Ok(event_stream::respond(Some(parts)))
}

/// The part of an event that all streams share. A session would be read again for each stream.
fn render_shared(event: &FeedEvent) -> Vec<u8> {
    view::render_tail(event, None)
}

impl FeedStream {
    /// The next part of the response; `None` at its end.
    async fn next_part(&mut self) -> Option<Vec<u8>> {
        self.subscription.set_client_ready(true);
        while self.part.is_empty() {
            match self.phase {
                // Boxed: the future is large, and a stream is seldom in this phase.
                StreamPhase::CatchingUp => Box::pin(self.catch_up()).await,
                StreamPhase::Live => self.follow().await,
                StreamPhase::Ended => return None,
            }
        }
        self.subscription.set_client_ready(false);
        if self.part.has_id() {
            self.ticks_without_id = 0;
        }
        Some(self.part.take())
    }

    /// Reads the next page.
    async fn catch_up(&mut self) {
        let caller = match self.reader.authenticate_again() {
            Ok(caller) => caller,
            Err(_) => return self.end(StreamEnd::NotAuthorized),
        };
        if self.drain.wait().now_or_never().is_some() {
            self.add_bookmark();
            return self.end(StreamEnd::ServerStops);
        }
        self.subscription.listen();
        match self.sessions.feed_page(&caller, self.query.clone()).await {
            Ok(page) => {
                self.add_page(&page);
                // The filter has skipped many changes: the client need not skip them again.
                if self.part.is_empty() && !page.caught_up {
                    self.add_bookmark();
                }
            }
            Err(
                Error::Unavailable(_)
                | Error::Overloaded { .. }
                | Error::StatementTimeout(_)
                | Error::OutcomeUnknown(_),
            ) => {
                self.ticks.tick().await;
                self.part.add_comment("the database is not available");
            }
            Err(error) => self.fail(&error.into()),
        }
    }

    /// Waits for new changes.
    async fn follow(&mut self) {
        let received = tokio::select! {
            biased;
            () = self.client.disconnected() => return self.end(StreamEnd::ClientGone),
            () = self.drain.wait() => {
                self.add_bookmark();
                return self.end(StreamEnd::ServerStops);
            }
            received = self.subscription.next() => received,
            _ = self.ticks.tick() => return self.tick(),
        };
        match received {
            StreamUpdate::Events(events) => {
                for event in &events {
                    let mut step = self.position.advance(&event.event);
                    if step == StreamStep::Unknown && Box::pin(self.find_last()).await {
                        step = self.position.advance(&event.event);
                    }
                    match step {
                        StreamStep::Seen => {}
                        StreamStep::After(prev_seq) => {
                            self.add_change(&event.event, prev_seq, event.text(render_shared));
                        }
                        StreamStep::Unknown => {
                            self.phase = StreamPhase::CatchingUp;
                            return;
                        }
                    }
                }
            }
            StreamUpdate::Behind => self.phase = StreamPhase::CatchingUp,
            StreamUpdate::Closed => {
                self.add_bookmark();
                self.end(StreamEnd::TooSlow);
            }
        }
    }

    /// Finds the last change of the stream up to its position. Returns whether it is known now.
    async fn find_last(&mut self) -> bool {
        let Ok(caller) = self.reader.authenticate_again() else { return false };
        let (filter, seq) = (&self.query.filter, self.position.cursor().seq);
        let found = self.sessions.last_match(&caller, filter, seq).await;
        found.map(|last| self.position.set_last(last)).is_ok()
    }

    /// Checks the key, and sends a bookmark from time to time.
    fn tick(&mut self) {
        if self.reader.authenticate_again().is_err() {
            return self.end(StreamEnd::NotAuthorized);
        }
        self.ticks_without_id += 1;
        if self.ticks_without_id >= BOOKMARK_TICKS {
            self.position.settle(&self.subscription);
            self.add_bookmark();
        }
    }

    /// Adds the events of a page, as far as they fit into the part.
    fn add_page(&mut self, page: &FeedPage) {
        let total = page.sessions.len() + page.events.len();
        let mut added = 0;
        for session in &page.sessions {
            let at = FeedCursor { snapshot: Some(session.id), last_match: None, ..page.next };
            self.part.add_session(&at, session);
            added += 1;
            if self.part.is_full() && added < total {
                return self.pause_at(at, added);
            }
        }
        if page.snapshot == Some(SnapshotPhase::Done) {
            self.part.add_snapshot_end(&page.next);
        }
        for item in &page.events {
            let tail = view::render_tail(&item.event, item.session.as_ref());
            self.part.add_change(&item.cursor, item.event.seq, item.prev_seq, &tail);
            self.log.events += 1;
            added += 1;
            if self.part.is_full() && added < total {
                self.subscription.count_sent(added);
                return self.pause_at(item.cursor, added);
            }
        }
        self.subscription.count_sent(page.events.len());
        self.query.start = FeedStart::Cursor(page.next);
        self.query.limit = (self.query.limit * 2).min(MAX_LIMIT);
        self.position = StreamPosition::after(page.next, &self.query.filter);
        let is_present = page.caught_up && page.snapshot.is_none();
        self.phase = if is_present { StreamPhase::Live } else { StreamPhase::CatchingUp };
    }

    /// Leaves out the rest of a page, which the stream reads again when the client has taken the part.
    fn pause_at(&mut self, cursor: FeedCursor, added: usize) {
        self.query.start = FeedStart::Cursor(cursor);
        self.query.limit = added.max(1);
        self.position = StreamPosition::after(cursor, &self.query.filter);
        self.phase = StreamPhase::CatchingUp;
    }

    /// Adds a new change, which the position is behind.
    fn add_change(&mut self, event: &FeedEvent, prev_seq: FeedSeq, tail: &[u8]) {
        let cursor = self.position.cursor();
        self.query.start = FeedStart::Cursor(cursor);
        self.part.add_change(&cursor, event.seq, prev_seq, tail);
        self.subscription.count_sent(1);
        self.log.events += 1;
    }

    /// Adds the position of the stream.
    fn add_bookmark(&mut self) {
        let cursor = self.position.cursor();
        self.query.start = FeedStart::Cursor(cursor);
        self.part.add_bookmark(&cursor);
    }

    /// Ends the stream with a problem.
    fn fail(&mut self, problem: &Problem) {
        tracing::warn!(request_id = self.log.request_id, %problem, "a stream ended with a problem");
        self.part.add_problem(&self.position.cursor(), &problem.body(Some(&self.log.request_id)));
        self.end(StreamEnd::Failed);
    }

    fn end(&mut self, end: StreamEnd) {
        self.log.end = end;
        self.phase = StreamPhase::Ended;
    }
}

#[cfg(test)]
mod tests {
    use super::{BOOKMARK_TICKS, Duration, TICK};

    #[test]
    fn stream_without_a_match_has_a_bookmark_every_five_seconds() {
        assert!(TICK * (BOOKMARK_TICKS + 1) <= Duration::from_secs(5));
    }
}
