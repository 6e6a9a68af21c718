//! Waiting for a connection of the pool.

use std::time::Instant;

use super::{Counter, Histogram};

/// How long connections were waited for.
#[derive(Debug)]
pub struct Acquires {
    pub(super) waits: Histogram,
    pub(super) failures: Counter,
}

impl Default for Acquires {
    fn default() -> Self {
        Self { waits: Histogram::quick(), failures: Counter::default() }
    }
}

impl Acquires {
    /// Counts a wait for a connection, whether it comes or not.
    ///
    /// # Errors
    /// The error of `acquiring`.
    pub async fn count<T, E>(&self, acquiring: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let began = Instant::now();
        let acquired = acquiring.await;
        self.waits.took(began.elapsed());
        if acquired.is_err() {
            self.failures.inc();
        }
        acquired
    }
}
