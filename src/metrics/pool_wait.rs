//! Waits for connections of the pool.

use std::time::Instant;

use super::{Counter, Histogram};

/// The waits for a connection.
#[derive(Debug)]
pub struct AcquireStats {
    pub(super) waits: Histogram,
    pub(super) failures: Counter,
}

impl Default for AcquireStats {
    fn default() -> Self {
        Self { waits: Histogram::for_short_durations(), failures: Counter::default() }
    }
}

impl AcquireStats {
    /// Measures a wait for a connection, successful or not.
    ///
    /// # Errors
    /// The error of `acquiring`.
    pub async fn measure<T, E>(
        &self,
        acquiring: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let started_at = Instant::now();
        let acquired = acquiring.await;
        self.waits.observe_duration(started_at.elapsed());
        if acquired.is_err() {
            self.failures.inc();
        }
        acquired
    }
}

/// The statements that were given up because their answer did not come in time.
#[derive(Debug, Default)]
pub struct GivenUpStats {
    /// All such statements.
    pub given_up: Counter,
    /// Those whose connection was ended at the server.
    pub ended: Counter,
    /// Those that could not be ended, mostly because the server was gone as well.
    pub left: Counter,
}
