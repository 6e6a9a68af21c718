//! The signal that stops a service: in order, or in a hurry.

use std::time::Duration;

use tokio::sync::watch;

/// Stops one service. A clone stops the same service.
#[derive(Clone, Debug)]
pub struct Stopper(watch::Sender<Wish>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    Run,
    Stop,
    Hurry,
}

impl Default for Stopper {
    fn default() -> Self {
        Self(watch::channel(Wish::Run).0)
    }
}

impl Stopper {
    /// Stops the service in order: running requests may finish within `shutdown_timeout`.
    pub fn stop(&self) {
        self.raise(Wish::Stop);
    }

    /// Stops the service without waiting for running requests.
    pub fn hurry(&self) {
        self.raise(Wish::Hurry);
    }

    /// Whether a stop was requested.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        *self.0.borrow() >= Wish::Stop
    }

    /// Waits until a stop is requested.
    pub async fn wanted(&self) {
        self.reached(Wish::Stop).await;
    }

    /// Waits for `what`, until `patience` is over or a hurry is requested. Says whether `what` was
    /// finished.
    pub(super) async fn unless_hurried(
        &self,
        patience: Duration,
        what: impl Future<Output = ()>,
    ) -> bool {
        tokio::select! {
            biased;
            () = what => true,
            () = self.reached(Wish::Hurry) => false,
            () = tokio::time::sleep(patience) => false,
        }
    }

    fn raise(&self, to: Wish) {
        self.0.send_if_modified(|wish| {
            let rises = *wish < to;
            *wish = to.max(*wish);
            rises
        });
    }

    async fn reached(&self, wished: Wish) {
        // The wait fails only if all senders are dropped, and `self` is a sender.
        let _ = self.0.subscribe().wait_for(|wish| *wish >= wished).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn forced_shutdown_waits_for_nothing() {
        let stopper = Stopper::default();
        assert!(!stopper.is_wanted());
        stopper.clone().stop();
        stopper.wanted().await;
        assert!(stopper.unless_hurried(LONG, async {}).await);
        assert!(!stopper.unless_hurried(Duration::ZERO, std::future::pending()).await);
        stopper.hurry();
        stopper.stop();
        assert!(
            !stopper.unless_hurried(LONG, std::future::pending()).await,
            "a hurry is not undone"
        );
        assert!(stopper.unless_hurried(LONG, async {}).await, "a finished step counts");
    }
}
