//! Statements that requests share.

use std::time::Instant;

use super::{Counter, Gauge, Histogram};

/// The statements of one kind, and the requests that wait for them.
#[derive(Debug)]
pub struct StatementStats {
    /// Requests that wait for the next statement.
    pub queued: Gauge,
    /// Requests that were refused because the queue was full, or because they waited too long in
    /// it.
    pub rejected: Counter,
    pub(super) items: Histogram,
    pub(super) durations: Histogram,
    pub(super) failures: Counter,
}

impl Default for StatementStats {
    fn default() -> Self {
        Self {
            queued: Gauge::default(),
            rejected: Counter::default(),
            items: Histogram::for_counts(),
            durations: Histogram::for_short_durations(),
            failures: Counter::default(),
        }
    }
}

impl StatementStats {
    /// Measures a statement about `items` sessions.
    ///
    /// # Errors
    /// The error of `work`.
    pub async fn measure<T, E>(
        &self,
        items: usize,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let started_at = Instant::now();
        let result = work.await;
        self.items.observe(items as u64);
        self.durations.observe_duration(started_at.elapsed());
        if result.is_err() {
            self.failures.inc();
        }
        result
    }
}
