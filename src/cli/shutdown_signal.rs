//! The signal that stops a service, gracefully or by force.

use std::time::Duration;

use tokio::sync::watch;

/// Stops one service. A clone stops the same service.
#[derive(Clone, Debug)]
pub struct ShutdownSignal(watch::Sender<ShutdownStage>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ShutdownStage {
    Run,
    Stop,
    Force,
}

impl Default for ShutdownSignal {
    fn default() -> Self {
        Self(watch::channel(ShutdownStage::Run).0)
    }
}

impl ShutdownSignal {
    /// Stops the service gracefully: running requests may finish within `shutdown_timeout`.
    pub fn stop(&self) {
        self.raise(ShutdownStage::Stop);
    }

    /// Stops the service without waiting for running requests.
    pub fn force(&self) {
        self.raise(ShutdownStage::Force);
    }

    /// Whether a stop was requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.0.borrow() >= ShutdownStage::Stop
    }

    /// Waits until a stop is requested.
    pub async fn requested(&self) {
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
    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn forced_shutdown_waits_for_nothing() {
        let signal = ShutdownSignal::default();
        assert!(!signal.is_requested());
        signal.clone().stop();
        signal.requested().await;
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
}
