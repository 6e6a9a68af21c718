//! What is still to be written down.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::{Instant, sleep_until};

use super::single_flight::soon;
use crate::repository::dedicated_connection::Line;
use crate::repository::deliveries::{self, Finished, Lease, Unsent};
use crate::repository::{self, Connection};

/// So many are written down together, or more: a statement costs as much as six of them, besides.
const TOGETHER: usize = 64;
/// How long who ended waits for so much company.
const COMPANY: Duration = Duration::from_millis(10);

/// What became of deliveries that were taken.
#[derive(Default)]
pub(super) struct Unwritten {
    /// Tries that ended.
    finished: Vec<Finished>,
    /// What was not tried, and is to be given back.
    pub(super) unsent: Vec<Unsent>,
    /// What was asked for when the connection broke: it may be ours, but will not come.
    pub(super) forgotten: Vec<Lease>,
    /// When the first of the tries ended.
    since: Option<Instant>,
}

impl Unwritten {
    pub(super) fn is_empty(&self) -> bool {
        self.finished.is_empty() && self.unsent.is_empty() && self.forgotten.is_empty()
    }

    /// Takes note of tries that have just ended.
    pub(super) fn ended(&mut self, finished: Vec<Finished>) {
        self.since.get_or_insert_with(Instant::now);
        self.finished.extend(finished);
    }

    /// Until when tries that ended wait for others: only if there are `more` to come, and if they
    /// are few. All else is written down at once.
    fn waits_until(&self, more: bool) -> Option<Instant> {
        let few = self.finished.len() < TOGETHER;
        let only_tries = self.unsent.is_empty() && self.forgotten.is_empty();
        self.since.filter(|_| more && few && only_tries).map(|since| since + COMPANY)
    }

    /// Whether they still wait.
    pub(super) fn waits(&self, more: bool) -> bool {
        self.waits_until(more).is_some_and(|until| until > Instant::now())
    }

    /// Waits as long as they do; for ever, if they do not.
    pub(super) async fn company(&self, more: bool) {
        match self.waits_until(more) {
            Some(until) => sleep_until(until).await,
            None => std::future::pending().await,
        }
    }

    pub(super) async fn write(
        &self,
        line: &mut Line,
        now: DateTime<Utc>,
    ) -> Result<(), repository::Error> {
        let mut connection = line.take(soon()).await?;
        let done = self.write_on(line, &mut connection, now).await;
        line.give_back(connection, &done);
        done
    }

    async fn write_on(
        &self,
        line: &Line,
        connection: &mut Connection,
        now: DateTime<Utc>,
    ) -> Result<(), repository::Error> {
        line.bounded(deliveries::record(connection, &self.finished, now)).await?;
        line.bounded(deliveries::give_back(connection, &self.unsent, now)).await?;
        line.bounded(deliveries::give_up(connection, &self.forgotten, now)).await
    }

    /// Takes back what could not be written.
    pub(super) fn again(&mut self, written: Self) {
        self.finished.extend(written.finished);
        self.unsent.extend(written.unsent);
        self.forgotten.extend(written.forgotten);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::{DeliveryId, SessionId, Version};
    use crate::repository::deliveries::{Next, Tried};

    fn tries(number: usize) -> Vec<Finished> {
        let tried = Tried {
            attempt: 1,
            started_at: DateTime::UNIX_EPOCH,
            duration_ms: 1,
            status: Some(200),
            error: None,
            answer: None,
        };
        let one = |number: usize| Finished {
            id: DeliveryId {
                session_id: SessionId::new(Uuid::from_u128(number as u128)),
                version: Version::FIRST,
                app_id: "app".parse().unwrap(),
            },
            lease: Uuid::nil(),
            next: Next::Delivered,
            tried: tried.clone(),
        };
        (0..number).map(one).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_wait_a_little_from_the_first_on_while_more_are_to_come() {
        let mut unwritten = Unwritten::default();
        assert_eq!(unwritten.waits_until(true), None, "for what?");
        unwritten.ended(tries(1));
        let until = Instant::now() + COMPANY;
        tokio::time::advance(COMPANY / 2).await;
        unwritten.ended(tries(TOGETHER - 2));
        assert_eq!(unwritten.waits_until(true), Some(until));
        assert_eq!(unwritten.waits_until(false), None, "the next may be held up by these");
        unwritten.ended(tries(1));
        assert_eq!(unwritten.waits_until(true), None, "they are enough");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_sent_or_not_written_down_does_not_wait() {
        let mut unwritten = Unwritten::default();
        let one = tries(1).remove(0);
        unwritten.ended(vec![one.clone()]);
        unwritten.unsent.push(Unsent { id: one.id, lease: one.lease });
        assert_eq!(unwritten.waits_until(true), None);
        let failed = std::mem::take(&mut unwritten);
        assert!(unwritten.is_empty());
        unwritten.again(Unwritten { unsent: Vec::new(), ..failed });
        assert_eq!(unwritten.waits_until(true), None, "it waited already");
    }
}
