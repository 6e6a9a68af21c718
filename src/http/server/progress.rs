//! How far a connection is: whose turn it is, and by when. No sockets here, only times.
//!
//! The framework limits the first head of a connection and nothing else; so these are limits for
//! the later ones, for connections without a request, and for clients that do not read.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

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
    /// Sending: the rest of a head, or the next request. Nobody waits for an answer.
    Request,
    /// Taking an answer.
    Reading,
}

/// One connection, shared by its socket and its requests.
#[derive(Debug)]
pub(in super::super) struct Progress {
    patience: Patience,
    /// Requests whose answers are not out of hand yet.
    running: Cell<usize>,
    /// Whether there was a request at all.
    used: Cell<bool>,
    /// Since when none runs.
    quiet: Cell<Instant>,
    /// Since when there are bytes that no request has come of.
    head: Cell<Option<Instant>>,
    /// Whether bytes without a request are the beginning of one. In HTTP/2 they may be anything.
    bytes_are_heads: bool,
    /// Since when the socket takes nothing.
    blocked: Cell<Option<Instant>>,
}

/// A request that runs until this is dropped.
#[derive(Debug)]
pub(in super::super) struct Running(Rc<Progress>);

impl Progress {
    /// A new connection. `bytes_are_heads` is for HTTP/1.
    pub(super) fn new(patience: Patience, bytes_are_heads: bool) -> Rc<Self> {
        Rc::new(Self {
            patience,
            running: Cell::default(),
            used: Cell::default(),
            quiet: Cell::new(Instant::now()),
            head: Cell::default(),
            bytes_are_heads,
            blocked: Cell::default(),
        })
    }

    /// Bytes came.
    pub(super) fn received(&self) {
        let begins = self.running.get() == 0 && self.used.get() && self.head.get().is_none();
        if begins && self.bytes_are_heads {
            self.head.set(Some(Instant::now()));
        }
    }

    /// The socket takes nothing.
    pub(super) fn blocked(&self) {
        if self.blocked.get().is_none() {
            self.blocked.set(Some(Instant::now()));
        }
    }

    /// The socket took something.
    pub(super) fn taken(&self) {
        self.blocked.take();
    }

    /// A request is there.
    pub(in super::super) fn begin(self: &Rc<Self>) -> Running {
        self.used.set(true);
        self.head.take();
        self.running.set(self.running.get() + 1);
        Running(self.clone())
    }

    /// What is the next to be overdue, and when.
    pub(super) fn deadline(&self) -> Option<(Instant, Overdue)> {
        let unread = self.blocked.get();
        let reading = unread.map(|since| (since + self.patience.write, Overdue::Reading));
        let request = match self.head.get() {
            _ if self.running.get() > 0 => None,
            Some(since) => Some(since + self.patience.head),
            None => Some(self.quiet.get() + self.patience.idle),
        };
        let request = request.map(|at| (at, Overdue::Request));
        reading.into_iter().chain(request).min_by_key(|(at, _)| *at)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let running = self.0.running.get() - 1;
        self.0.running.set(running);
        if running == 0 {
            self.0.quiet.set(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn connection(bytes_are_heads: bool) -> Rc<Progress> {
        let patience = Patience { head: 5 * SECOND, write: 30 * SECOND, idle: 75 * SECOND };
        Progress::new(patience, bytes_are_heads)
    }

    /// What is overdue next, and in how many seconds.
    fn next(progress: &Progress) -> Option<(u64, Overdue)> {
        let (at, what) = progress.deadline()?;
        Some((at.duration_since(Instant::now()).as_secs(), what))
    }

    #[tokio::test(start_paused = true)]
    async fn a_kept_connection_waits_long_for_a_request_and_briefly_for_the_rest_of_one() {
        let progress = connection(true);
        progress.received();
        assert_eq!(next(&progress), Some((75, Overdue::Request)), "the framework has the first");
        let running = progress.begin();
        progress.received();
        tokio::time::advance(100 * SECOND).await;
        assert_eq!(next(&progress), None, "now the client waits");
        drop(running);
        assert_eq!(next(&progress), Some((75, Overdue::Request)));
        tokio::time::advance(70 * SECOND).await;
        progress.received();
        tokio::time::advance(4 * SECOND).await;
        progress.received();
        assert_eq!(next(&progress), Some((1, Overdue::Request)), "each byte gives no more time");
        drop(progress.begin());
        assert_eq!(next(&progress), Some((75, Overdue::Request)));
    }

    #[tokio::test(start_paused = true)]
    async fn frames_need_not_begin_a_request() {
        let progress = connection(false);
        drop(progress.begin());
        progress.received();
        assert_eq!(next(&progress), Some((75, Overdue::Request)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_overdue_whatever_else_runs() {
        let progress = connection(true);
        let running = progress.begin();
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
}
