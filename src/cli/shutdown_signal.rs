//! The signal that stops a service: after a drain, gracefully or by force.

use std::time::Duration;

use tokio::sync::watch;

/// Stops one service. A clone stops the same service.
#[derive(Clone, Debug)]
pub struct ShutdownSignal(watch::Sender<ShutdownStage>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ShutdownStage {
    Run,
    Drain,
    Stop,
    Force,
}

impl Default for ShutdownSignal {
    fn default() -> Self {
        Self(watch::channel(ShutdownStage::Run).0)
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
        self.raise(ShutdownStage::Stop);
    }

    /// Stops the service without waiting for running requests.
    pub fn force(&self) {
        self.raise(ShutdownStage::Force);
    }

    /// Whether a stop was requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.0.borrow() >= ShutdownStage::Drain
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
        self.0.send_if_modified(|stage| {
            let is_later = *stage < to;
            *stage = to.max(*stage);
            is_later
        });
    }

    async fn reached(&self, target: ShutdownStage) {
        // The wait fails only if all senders are dropped, and `self` is a sender.
        let _ = self.0.subscribe().wait_for(|stage| *stage >= target).await;
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
