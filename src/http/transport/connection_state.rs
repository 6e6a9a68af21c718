//! How far a connection is: whose turn it is, and by when. No sockets here, only times.
//!
//! The framework limits the first head of a connection and nothing else, and knows nothing of the
//! connection's opening; so these are limits for the later heads, for connections without a request,
//! and for clients that do not read.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::disconnect::Presence;
use super::h2_frame_tracker::{Awaited, Frames};
use super::pipelining::Tail;
use crate::metrics::Cut;

/// How much later than the framework the first head of a connection is given up here, so that the
/// framework can answer 408. It begins to count when TLS is open, which may be late already.
const AFTER_THE_FRAMEWORK: Duration = Duration::from_millis(500);

/// How long a client may let the server wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For the rest of a head.
    pub(super) head: Duration,
    /// For room to write into.
    pub(super) write: Duration,
    /// For the next request.
    pub(super) idle: Duration,
}

/// What a client is too slow with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// Sending the first head, or the rest of what has begun.
    Head,
    /// Using the connection.
    Idle,
    /// Taking an answer.
    Reading,
}

/// What came, as it is told apart.
#[derive(Debug)]
pub(super) enum Came {
    /// Over HTTP/1: what is no request yet is the beginning of one.
    One(Tail),
    /// Over HTTP/2: what is no whole frame is the beginning of one, whatever else runs.
    Two(Frames),
}

/// Bytes below TLS that have given no byte above it yet, which may be a part of a record. Without
/// TLS they stay absent.
///
/// The surprise: the part of a record that comes in one read with the end of another one is not
/// noticed before its next byte. Records are not parsed here.
#[derive(Debug, Default)]
pub(super) struct UndecodedBytes {
    /// When the first of them came.
    since: Cell<Option<Instant>>,
}

impl UndecodedBytes {
    /// Bytes came below TLS.
    pub(super) fn on_bytes(&self) {
        if self.since.get().is_none() {
            self.restart();
        }
    }

    /// Bytes came above TLS. Gives the time when the first of them came below.
    pub(super) fn decoded(&self) -> Option<Instant> {
        self.since.take()
    }

    /// The time of bytes that are there begins now.
    fn restart_if_any(&self) {
        if self.since.get().is_some() {
            self.restart();
        }
    }

    fn restart(&self) {
        self.since.set(Some(Instant::now()));
    }
}

/// One connection, shared by its socket and its requests.
#[derive(Debug)]
pub(crate) struct Progress {
    patience: Patience,
    /// When its opening began.
    opened: Instant,
    /// Requests whose answers are not out of hand yet.
    running: Cell<usize>,
    /// Whether there was a request at all.
    used: Cell<bool>,
    /// Since when none runs.
    quiet: Cell<Instant>,
    /// Since when the rest is awaited of what has begun to come.
    head: Cell<Option<Instant>>,
    came: RefCell<Came>,
    undecoded: Rc<UndecodedBytes>,
    /// Since when the socket takes nothing.
    blocked: Cell<Option<Instant>>,
    client: Rc<Presence>,
    cut: Cell<Option<Cut>>,
}

/// A request that runs until this is dropped.
#[derive(Debug)]
pub(crate) struct Running(Rc<Progress>);

impl Progress {
    /// A connection whose opening began when it was `opened`, and is over; nothing `came` since.
    pub(super) fn new(
        patience: Patience,
        opened: Instant,
        came: Came,
        undecoded: Rc<UndecodedBytes>,
    ) -> Rc<Self> {
        Rc::new(Self {
            patience,
            opened,
            running: Cell::default(),
            used: Cell::default(),
            quiet: Cell::new(Instant::now()),
            head: Cell::default(),
            came: RefCell::new(came),
            undecoded,
            blocked: Cell::default(),
            client: Rc::default(),
            cut: Cell::default(),
        })
    }

    /// By when a connection is open, or its first head there: TLS takes from the same time.
    pub(super) fn open_by(&self) -> Instant {
        self.opened + self.patience.head
    }

    /// These bytes came.
    pub(super) fn received(&self, bytes: &[u8]) {
        let since = self.undecoded.decoded().unwrap_or_else(Instant::now);
        match &mut *self.came.borrow_mut() {
            Came::One(tail) => {
                tail.add(bytes);
                let is_quiet = self.running.get() == 0 && self.used.get();
                if is_quiet && self.head.get().is_none() {
                    self.head.set(Some(since));
                }
            }
            Came::Two(frames) => match frames.add(bytes) {
                Awaited::Nothing => self.head.set(None),
                Awaited::RestOfAnother => self.head.set(Some(since)),
                Awaited::Rest => {}
            },
        }
    }

    /// The client, as far as the connection knows.
    pub(crate) fn client(&self) -> &Rc<Presence> {
        &self.client
    }

    /// Nothing more comes.
    pub(super) fn gone(&self) {
        self.client.end();
    }

    /// The socket takes nothing.
    pub(super) fn blocked(&self) {
        if self.blocked.get().is_none() {
            self.blocked.set(Some(Instant::now()));
        }
    }

    /// The socket took something.
    pub(super) fn taken(&self) {
        if self.blocked.take().is_none() {
            return;
        }
        self.undecoded.restart_if_any();
        if self.head.get().is_some() && self.is_framed() {
            self.head.set(Some(Instant::now()));
        }
    }

    /// Whether the first head is awaited; frames are awaited one by one.
    fn has_no_head(&self) -> bool {
        !self.used.get() && !self.is_framed()
    }

    fn is_framed(&self) -> bool {
        matches!(*self.came.borrow(), Came::Two(_))
    }

    /// A request is there. Over HTTP/1 it announces a `body` of so many bytes.
    pub(crate) fn begin(self: &Rc<Self>, body: u64) -> Running {
        if let Came::One(tail) = &mut *self.came.borrow_mut() {
            tail.announce(body);
            self.head.set(None);
        }
        self.used.set(true);
        self.running.set(self.running.get() + 1);
        Running(self.clone())
    }

    /// What is the next to be overdue, and when.
    pub(super) fn deadline(&self) -> Option<(Instant, Overdue)> {
        let unread = self.blocked.get();
        let reading = unread.map(|since| (since + self.patience.write, Overdue::Reading));
        let request = match self.head.get() {
            // Frames are not read while nothing can be written: the rest may be there.
            Some(_) if unread.is_some() && self.is_framed() => None,
            Some(since) => Some((since + self.patience.head, Overdue::Head)),
            None if self.running.get() > 0 => None,
            None if self.has_no_head() => {
                Some((self.open_by() + AFTER_THE_FRAMEWORK, Overdue::Head))
            }
            None => Some(match self.undecoded.since.get() {
                Some(since) if unread.is_none() => (since + self.patience.head, Overdue::Head),
                _ => (self.quiet.get() + self.patience.idle, Overdue::Idle),
            }),
        };
        reading.into_iter().chain(request).min_by_key(|(at, _)| *at)
    }

    /// The connection ends because its client is too slow with this; the first thing counts.
    pub(crate) fn cut(&self, cut: Cut) {
        if self.cut.get().is_none() {
            self.cut.set(Some(cut));
        }
    }

    /// The connection ends because this is overdue.
    pub(super) fn is_overdue(&self, what: Overdue) {
        match what {
            Overdue::Head => self.cut(Cut::Head),
            Overdue::Reading => self.cut(Cut::Write),
            Overdue::Idle => {}
        }
    }

    /// What a connection that has ended, well or not, was cut off for, if it was. That the framework
    /// gave up a first head it tells nobody: it ends well without one, while the client is there.
    pub(super) fn was_cut(&self, ended_well: bool) -> Option<Cut> {
        let is_given_up = ended_well && self.has_no_head() && !self.client.is_over();
        self.cut.get().or(is_given_up.then_some(Cut::Head))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let running = self.0.running.get() - 1;
        self.0.running.set(running);
        if running > 0 {
            return;
        }
        let now = Instant::now();
        self.0.quiet.set(now);
        self.0.undecoded.restart_if_any();
        // A part of the next request may have come together with this one.
        if matches!(&*self.0.came.borrow(), Came::One(tail) if tail.has_begun()) {
            self.0.head.set(Some(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn connection(came: Came) -> Rc<Progress> {
        let patience = Patience { head: 5 * SECOND, write: 30 * SECOND, idle: 75 * SECOND };
        Progress::new(patience, Instant::now(), came, Rc::default())
    }

    /// What is overdue next, and in how many seconds.
    fn next(progress: &Progress) -> Option<(u64, Overdue)> {
        let (at, what) = progress.deadline()?;
        Some((at.duration_since(Instant::now()).as_secs(), what))
    }

    #[tokio::test(start_paused = true)]
    async fn a_kept_connection_waits_long_for_a_request_and_briefly_for_the_rest_of_one() {
        let progress = connection(Came::One(Tail::default()));
        progress.received(b"G");
        tokio::time::advance(SECOND).await;
        assert_eq!(next(&progress), Some((4, Overdue::Head)), "the opening included");
        progress.received(b"ET / HTTP/1.1\r\n\r\n");
        let running = progress.begin(0);
        tokio::time::advance(100 * SECOND).await;
        assert_eq!(next(&progress), None, "now the client waits");
        drop(running);
        assert_eq!(next(&progress), Some((75, Overdue::Idle)));
        tokio::time::advance(70 * SECOND).await;
        progress.received(b"G");
        tokio::time::advance(4 * SECOND).await;
        progress.received(b"G");
        assert_eq!(next(&progress), Some((1, Overdue::Head)), "each byte gives no more time");
        progress.received(b"ET / HTTP/1.1\r\n\r\n");
        drop(progress.begin(0));
        assert_eq!(next(&progress), Some((75, Overdue::Idle)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_with_a_request_is_awaited_from_its_answer_on() {
        let progress = connection(Came::One(Tail::default()));
        progress.received(b"POST / HTTP/1.1\r\n\r\n{}GET");
        let running = progress.begin(2);
        tokio::time::advance(100 * SECOND).await;
        assert_eq!(next(&progress), None, "now the client waits");
        drop(running);
        tokio::time::advance(SECOND).await;
        progress.received(b" ");
        assert_eq!(next(&progress), Some((4, Overdue::Head)));
        progress.received(b"/ HTTP/1.1\r\n\r\n");
        drop(progress.begin(0));
        assert_eq!(next(&progress), Some((75, Overdue::Idle)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_is_awaited_whatever_runs_and_whole_ones_are_not() {
        const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let progress = connection(Came::Two(Frames::default()));
        progress.received(&[0; 24]);
        drop(progress.begin(0));
        progress.received(PING);
        assert_eq!(next(&progress), Some((75, Overdue::Idle)));
        progress.received(&PING[..10]);
        let running = progress.begin(0);
        tokio::time::advance(4 * SECOND).await;
        progress.received(&PING[10..11]);
        assert_eq!(next(&progress), Some((1, Overdue::Head)));
        progress.received(&PING[11..]);
        assert_eq!(next(&progress), None, "now the client waits");
        drop(running);
        assert_eq!(next(&progress), Some((75, Overdue::Idle)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_is_not_awaited_while_nobody_may_be_reading_it() {
        let progress = connection(Came::Two(Frames::default()));
        progress.received(&[0; 25]);
        progress.blocked();
        tokio::time::advance(20 * SECOND).await;
        assert_eq!(next(&progress), Some((10, Overdue::Reading)));
        progress.taken();
        assert_eq!(next(&progress), Some((5, Overdue::Head)));
        tokio::time::advance(SECOND).await;
        progress.taken();
        assert_eq!(next(&progress), Some((4, Overdue::Head)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_overdue_whatever_else_runs() {
        let progress = connection(Came::One(Tail::default()));
        let running = progress.begin(0);
        progress.blocked();
        tokio::time::advance(10 * SECOND).await;
        progress.blocked();
        assert_eq!(next(&progress), Some((20, Overdue::Reading)));
        progress.taken();
        assert_eq!(next(&progress), None);
        progress.blocked();
        drop(running);
        assert_eq!(next(&progress), Some((30, Overdue::Reading)), "before it is idle");
    }

    #[tokio::test(start_paused = true)]
    async fn undecoded_bytes_start_the_time_of_a_head_on_an_idle_connection_only() {
        for came in [Came::One(Tail::default()), Came::Two(Frames::default())] {
            let progress = connection(came);
            let running = progress.begin(0);
            progress.undecoded.on_bytes();
            tokio::time::advance(100 * SECOND).await;
            assert_eq!(next(&progress), None, "a request runs: its own limits hold");
            drop(running);
            tokio::time::advance(SECOND).await;
            progress.undecoded.on_bytes();
            assert_eq!(next(&progress), Some((4, Overdue::Head)), "each byte gives no more time");
            progress.blocked();
            assert_eq!(next(&progress), Some((30, Overdue::Reading)), "the rest may be there");
            progress.taken();
            assert_eq!(next(&progress), Some((5, Overdue::Head)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_head_begins_with_its_first_undecoded_byte() {
        for (came, begins) in
            [(Came::One(Tail::default()), &b"GET"[..]), (Came::Two(Frames::default()), &[0; 25])]
        {
            let progress = connection(came);
            drop(progress.begin(0));
            progress.undecoded.on_bytes();
            tokio::time::advance(3 * SECOND).await;
            progress.received(begins);
            assert_eq!(next(&progress), Some((2, Overdue::Head)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whole_frames_in_whole_records_leave_an_http2_connection_idle() {
        const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let progress = connection(Came::Two(Frames::default()));
        progress.received(&[0; 24]);
        drop(progress.begin(0));
        progress.undecoded.on_bytes();
        tokio::time::advance(SECOND).await;
        progress.received(PING);
        assert_eq!(next(&progress), Some((74, Overdue::Idle)));
    }
}
