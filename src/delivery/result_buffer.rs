//! What is still to be written down.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::{Instant, sleep_until};

use super::single_flight::connect_deadline;
use crate::repository::dedicated_connection::DedicatedConnection;
use crate::repository::deliveries::{self, CompletedAttempt, Lease, ReleasedDelivery};
use crate::repository::{self, Connection};

/// So many are written down together, or more: a statement costs as much as six of them, besides.
const FLUSH_BATCH: usize = 64;
/// How long who ended waits for so much company.
const LINGER: Duration = Duration::from_millis(10);

/// What became of deliveries that were taken.
#[derive(Default)]
pub(super) struct ResultBuffer {
    /// Tries that ended.
    finished: Vec<CompletedAttempt>,
    /// What was not tried, and is to be given back.
    pub(super) released: Vec<ReleasedDelivery>,
    /// What was asked for when the connection broke: it may be ours, but will not come.
    pub(super) lost_leases: Vec<Lease>,
    /// When the first of the tries ended.
    first_finished_at: Option<Instant>,
}

impl ResultBuffer {
    pub(super) fn is_empty(&self) -> bool {
        self.finished.is_empty() && self.released.is_empty() && self.lost_leases.is_empty()
    }

    /// Takes note of tries that have just ended.
    pub(super) fn push(&mut self, finished: Vec<CompletedAttempt>) {
        self.first_finished_at.get_or_insert_with(Instant::now);
        self.finished.extend(finished);
    }

    /// Until when tries that ended wait for others: only if there are `more` to come, and if they
    /// are few. All else is written down at once.
    fn flush_at(&self, more_expected: bool) -> Option<Instant> {
        let few = self.finished.len() < FLUSH_BATCH;
        let only_finished = self.released.is_empty() && self.lost_leases.is_empty();
        self.first_finished_at
            .filter(|_| more_expected && few && only_finished)
            .map(|first| first + LINGER)
    }

    /// Whether they still wait.
    pub(super) fn is_lingering(&self, more_expected: bool) -> bool {
        self.flush_at(more_expected).is_some_and(|flush_at| flush_at > Instant::now())
    }

    /// Waits as long as they do; for ever, if they do not.
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
        let mut connection = dedicated.acquire(connect_deadline()).await?;
        let result = self.flush_on(dedicated, &mut connection, now).await;
        dedicated.put_back(connection, &result);
        result
    }

    async fn flush_on(
        &self,
        dedicated: &DedicatedConnection,
        connection: &mut Connection,
        now: DateTime<Utc>,
    ) -> Result<(), repository::Error> {
        dedicated.with_timeout(deliveries::complete(connection, &self.finished, now)).await?;
        dedicated.with_timeout(deliveries::release(connection, &self.released, now)).await?;
        dedicated
            .with_timeout(deliveries::release_lost_leases(connection, &self.lost_leases, now))
            .await
    }

    /// Takes back what could not be written.
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
    use crate::domain::{DeliveryId, SessionId, Version};
    use crate::repository::deliveries::{AttemptRecord, NextState};

    fn tries(number: usize) -> Vec<CompletedAttempt> {
        let record = AttemptRecord {
            attempt: 1,
            started_at: DateTime::UNIX_EPOCH,
            duration_ms: 1,
            status: Some(200),
            error: None,
            response_excerpt: None,
        };
        let one = |number: usize| CompletedAttempt {
            id: DeliveryId {
                session_id: SessionId::new(Uuid::from_u128(number as u128)),
                version: Version::FIRST,
                app_id: "app".parse().unwrap(),
            },
            lease: Uuid::nil(),
            next_state: NextState::Delivered,
            record: record.clone(),
        };
        (0..number).map(one).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn few_results_linger_while_more_are_expected() {
        let mut buffer = ResultBuffer::default();
        assert_eq!(buffer.flush_at(true), None, "for what?");
        buffer.push(tries(1));
        let flush_at = Instant::now() + LINGER;
        tokio::time::advance(LINGER / 2).await;
        buffer.push(tries(FLUSH_BATCH - 2));
        assert_eq!(buffer.flush_at(true), Some(flush_at));
        assert_eq!(buffer.flush_at(false), None, "the next may be held up by these");
        buffer.push(tries(1));
        assert_eq!(buffer.flush_at(true), None, "they are enough");
    }

    #[tokio::test(start_paused = true)]
    async fn released_and_restored_results_are_flushed_at_once() {
        let mut buffer = ResultBuffer::default();
        let result = tries(1).remove(0);
        buffer.push(vec![result.clone()]);
        buffer.released.push(ReleasedDelivery { id: result.id, lease: result.lease });
        assert_eq!(buffer.flush_at(true), None);
        let failed = std::mem::take(&mut buffer);
        assert!(buffer.is_empty());
        buffer.restore(ResultBuffer { released: Vec::new(), ..failed });
        assert_eq!(buffer.flush_at(true), None, "it waited already");
    }
}
