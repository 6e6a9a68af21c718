//! The signal that stops a service: after a drain, gracefully or by force.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// The time that a stop may take after the drain and `server.shutdown_timeout`: for traces, the
/// database, and other parts that do not answer.
pub const STOP_ALLOWANCE: Duration = Duration::from_secs(10);
/// The minimum time for the regular stop of the embedded PostgreSQL.
const MIN_DATABASE_TIME: Duration = Duration::from_secs(2);

/// Stops one service. A clone stops the same service.
#[derive(Clone, Debug)]
pub struct ShutdownSignal {
    stage: watch::Sender<ShutdownStage>,
    /// The end of the drain.
    drained_at: Arc<OnceLock<Instant>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ShutdownStage {
    Run,
    Drain,
    Stop,
    Force,
}

impl Default for ShutdownSignal {
    fn default() -> Self {
        Self { stage: watch::channel(ShutdownStage::Run).0, drained_at: Arc::default() }
    }
}

impl ShutdownSignal {
    /// Begins the stop, with the drain: the service still answers everything for `drain_timeout`. Then
    /// running requests may finish within `shutdown_timeout`.
    pub fn stop(&self) {
        self.raise(ShutdownStage::Drain);
    }

    /// Ends the drain.
    pub fn end_drain(&self) {
        self.drained_at.get_or_init(Instant::now);
        self.raise(ShutdownStage::Stop);
    }

    /// Stops the service without waiting for running requests.
    pub fn force(&self) {
        self.raise(ShutdownStage::Force);
    }

    /// Whether a stop was requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.stage.borrow() >= ShutdownStage::Drain
    }

    /// Waits until a stop is requested.
    pub async fn requested(&self) {
        self.reached(ShutdownStage::Drain).await;
    }

    /// Waits for the end of the drain: until `drain_timeout` has passed, or another signal ends it.
    pub(super) async fn drain(&self, drain_timeout: Duration) {
        let drained = self.drained();
        // A timeout of 0 waits for nothing, and an elapsed timeout is no error.
        let _ = tokio::time::timeout(drain_timeout, drained).await;
        self.end_drain();
    }

    /// Waits until the drain has ended.
    pub(super) async fn drained(&self) {
        self.reached(ShutdownStage::Stop).await;
    }

    /// The time for the regular stop of the database: the rest of `shutdown_timeout`, and at least 2 s.
    pub(super) fn database_time(&self, shutdown_timeout: Duration) -> Duration {
        let used = self.drained_at.get().map_or(Duration::ZERO, Instant::elapsed);
        shutdown_timeout.saturating_sub(used).max(MIN_DATABASE_TIME)
    }

    /// Waits for `work` until `timeout` has passed or a forced stop is requested. Returns whether
    /// `work` finished.
    pub(super) async fn unless_forced(
        &self,
        timeout: Duration,
        work: impl Future<Output = ()>,
    ) -> bool {
        tokio::select! {
            biased;
            () = work => true,
            () = self.reached(ShutdownStage::Force) => false,
            () = tokio::time::sleep(timeout) => false,
        }
    }

    fn raise(&self, to: ShutdownStage) {
        self.stage.send_if_modified(|stage| {
            let is_later = *stage < to;
            *stage = to.max(*stage);
            is_later
        });
    }

    async fn reached(&self, target: ShutdownStage) {
        // The wait fails only if all senders are dropped, and `self` is a sender.
        let _ = self.stage.subscribe().wait_for(|stage| *stage >= target).await;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::poll;

    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn forced_shutdown_waits_for_nothing() {
        let signal = ShutdownSignal::default();
        assert!(!signal.is_requested());
        signal.clone().stop();
        signal.requested().await;
        signal.drain(Duration::ZERO).await;
        signal.drained().await;
        assert!(signal.unless_forced(LONG, async {}).await);
        assert!(!signal.unless_forced(Duration::ZERO, std::future::pending()).await);
        signal.force();
        signal.stop();
        assert!(
            !signal.unless_forced(LONG, std::future::pending()).await,
            "a forced stop stays forced"
        );
        assert!(signal.unless_forced(LONG, async {}).await, "a finished step counts");
    }

    #[tokio::test(start_paused = true)]
    async fn database_gets_the_rest_of_the_time() {
        let signal = ShutdownSignal::default();
        let time =
            |signal: &ShutdownSignal| signal.database_time(Duration::from_secs(10)).as_secs();
        tokio::time::advance(LONG).await;
        assert_eq!(time(&signal), 10, "the server failed by itself");
        signal.clone().end_drain();
        assert_eq!(time(&signal), 10);
        tokio::time::advance(Duration::from_secs(7)).await;
        signal.end_drain();
        assert_eq!(time(&signal), 3);
        tokio::time::advance(LONG).await;
        assert_eq!(time(&signal), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn drain_ends_by_itself_or_by_a_signal() {
        for is_ended_by_signal in [false, true] {
            let signal = ShutdownSignal::default();
            signal.stop();
            let mut draining = pin!(signal.drain(LONG));
            assert!(poll!(&mut draining).is_pending());
            assert!(poll!(pin!(signal.drained())).is_pending());
            if is_ended_by_signal {
                signal.end_drain();
            } else {
                tokio::time::advance(LONG).await;
            }
            assert!(poll!(&mut draining).is_ready());
            assert!(poll!(pin!(signal.drained())).is_ready());
        }
    }
}
