//! Results that are not in the database yet.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::{Instant, sleep_until};

use super::single_flight::connect_deadline;
use crate::repository;
use crate::repository::connections::dedicated_connection::DedicatedConnection;
use crate::repository::deliveries::{self, CompletedAttempt, Lease, ReleasedDelivery};

/// The number of results that do not wait for more. The fixed cost of a statement is that of six
/// results.
const FLUSH_BATCH: usize = 64;
/// The time for which a result waits for others.
const LINGER: Duration = Duration::from_millis(10);

/// The results of claimed deliveries.
#[derive(Default)]
pub(super) struct ResultBuffer {
    /// Finished attempts.
    finished: Vec<CompletedAttempt>,
    /// Deliveries that were not tried, and will be released.
    pub(super) released: Vec<ReleasedDelivery>,
    /// The leases of claims whose connection broke: the deliveries may belong to this server, but
    /// never arrive.
    pub(super) lost_leases: Vec<Lease>,
    /// The time at which the first of the attempts ended.
    first_finished_at: Option<Instant>,
}

impl ResultBuffer {
    pub(super) fn is_empty(&self) -> bool {
        self.finished.is_empty() && self.released.is_empty() && self.lost_leases.is_empty()
    }

    /// Adds attempts that have just ended.
    pub(super) fn push(&mut self, finished: Vec<CompletedAttempt>) {
        self.first_finished_at.get_or_insert_with(Instant::now);
        self.finished.extend(finished);
    }

    /// The time until which finished attempts wait for others; `None` if they are written at once.
    /// They wait only if more are expected, few have finished, and the buffer has no other result.
    fn flush_at(&self, more_expected: bool) -> Option<Instant> {
        let few = self.finished.len() < FLUSH_BATCH;
        let only_finished = self.released.is_empty() && self.lost_leases.is_empty();
        self.first_finished_at
            .filter(|_| more_expected && few && only_finished)
            .map(|first| first + LINGER)
    }

    /// Whether results still wait for others.
    pub(super) fn is_lingering(&self, more_expected: bool) -> bool {
        self.flush_at(more_expected).is_some_and(|flush_at| flush_at > Instant::now())
    }

    /// Waits as long as the results do; forever if they do not wait.
    pub(super) async fn linger(&self, more_expected: bool) {
        match self.flush_at(more_expected) {
            Some(flush_at) => sleep_until(flush_at).await,
            None => std::future::pending().await,
        }
    }

    pub(super) async fn flush(
        &self,
        dedicated: &mut DedicatedConnection,
        now: DateTime<Utc>,
    ) -> Result<(), repository::Error> {
        // Each statement is work of its own: it may be repeated alone.
        let Self { finished, released, lost_leases, .. } = self;
        let connection = dedicated.acquire(connect_deadline()).await?;
        let completing = dedicated.run(connection, |mut connection| async move {
            let completed = deliveries::complete(&mut connection, finished, now).await;
            (connection, completed)
        });
        completing.await?;
        let connection = dedicated.acquire(connect_deadline()).await?;
        let releasing = dedicated.run(connection, |mut connection| async move {
            let done = deliveries::release(&mut connection, released, now).await;
            (connection, done)
        });
        releasing.await?;
        let connection = dedicated.acquire(connect_deadline()).await?;
        let releasing = dedicated.run(connection, |mut connection| async move {
            let done = deliveries::release_lost_leases(&mut connection, lost_leases, now).await;
            (connection, done)
        });
        releasing.await
    }

    /// Takes back results that could not be written.
    pub(super) fn restore(&mut self, unflushed: Self) {
        self.finished.extend(unflushed.finished);
        self.released.extend(unflushed.released);
        self.lost_leases.extend(unflushed.lost_leases);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::{AttemptRecord, DeliveryId, SessionId, Version};
    use crate::repository::deliveries::NextState;

    fn attempts(number: usize) -> Vec<CompletedAttempt> {
        let record = AttemptRecord {
            attempt: 1,
            started_at: DateTime::UNIX_EPOCH,
            duration_ms: 1,
            status: Some(200),
            error: None,
            response_excerpt: None,
        };
        let attempt = |number: usize| CompletedAttempt {
            id: DeliveryId {
                session_id: SessionId::new(Uuid::from_u128(number as u128)),
                version: Version::FIRST,
                app_id: "app".parse().unwrap(),
            },
            lease: Uuid::nil(),
            next_state: NextState::Delivered,
            record: record.clone(),
        };
        (0..number).map(attempt).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn few_results_linger_while_more_are_expected() {
        let mut buffer = ResultBuffer::default();
        assert_eq!(buffer.flush_at(true), None, "no result waits");
        buffer.push(attempts(1));
        let flush_at = Instant::now() + LINGER;
        tokio::time::advance(LINGER / 2).await;
        buffer.push(attempts(FLUSH_BATCH - 2));
        assert_eq!(buffer.flush_at(true), Some(flush_at));
        assert_eq!(buffer.flush_at(false), None, "the next deliveries may depend on these");
        buffer.push(attempts(1));
        assert_eq!(buffer.flush_at(true), None, "the batch is full");
    }

    #[tokio::test(start_paused = true)]
    async fn released_and_restored_results_are_flushed_at_once() {
        let mut buffer = ResultBuffer::default();
        let result = attempts(1).remove(0);
        buffer.push(vec![result.clone()]);
        buffer.released.push(ReleasedDelivery { id: result.id, lease: result.lease });
        assert_eq!(buffer.flush_at(true), None);
        let failed = std::mem::take(&mut buffer);
        assert!(buffer.is_empty());
        buffer.restore(ResultBuffer { released: Vec::new(), ..failed });
        assert_eq!(buffer.flush_at(true), None, "the result has waited already");
    }
}
