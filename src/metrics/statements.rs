//! Statements that requests share.

use std::time::Instant;

use super::{Counter, Histogram, Level};

/// The statements of one kind, and the requests that wait for them.
#[derive(Debug)]
pub struct Statements {
    /// How many wait for the next statement.
    pub queued: Level,
    /// How many were rejected: the queue was full, or they waited too long in it.
    pub turned_away: Counter,
    pub(super) items: Histogram,
    pub(super) durations: Histogram,
    pub(super) failures: Counter,
}

impl Default for Statements {
    fn default() -> Self {
        Self {
            queued: Level::default(),
            turned_away: Counter::default(),
            items: Histogram::items(),
            durations: Histogram::quick(),
            failures: Counter::default(),
        }
    }
}

impl Statements {
    /// Counts a statement about `items` sessions, and times it.
    ///
    /// # Errors
    /// The error of `work`.
    pub async fn count<T, E>(
        &self,
        items: usize,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let began = Instant::now();
        let done = work.await;
        self.items.observe(items as u64);
        self.durations.took(began.elapsed());
        if done.is_err() {
            self.failures.inc();
        }
        done
    }
}
