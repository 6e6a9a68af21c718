//! Stops a service: in order, or in a hurry.

use std::time::Duration;

use tokio::sync::watch;

/// Stops the service that it is of. Clones stop the same one.
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
    /// Stops it in order: what runs may finish, within its time.
    pub fn stop(&self) {
        self.raise(Wish::Stop);
    }

    /// Stops it without waiting for anything that runs.
    pub fn hurry(&self) {
        self.raise(Wish::Hurry);
    }

    /// Whether it shall stop.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        *self.0.borrow() >= Wish::Stop
    }

    /// Waits until it shall stop.
    pub async fn wanted(&self) {
        self.reached(Wish::Stop).await;
    }

    /// Waits for `what` no longer than `patience`, and not at all once there is a hurry. Gives
    /// whether it was done.
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
        // It fails only without a sender, and this is one.
        let _ = self.0.subscribe().wait_for(|wish| *wish >= wished).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn a_hurry_waits_for_nothing() {
        let stopper = Stopper::default();
        assert!(!stopper.is_wanted());
        stopper.clone().stop();
        stopper.wanted().await;
        assert!(stopper.unless_hurried(LONG, async {}).await);
        assert!(!stopper.unless_hurried(Duration::ZERO, std::future::pending()).await);
        stopper.hurry();
        stopper.stop();
        assert!(!stopper.unless_hurried(LONG, std::future::pending()).await, "a hurry stays one");
        assert!(stopper.unless_hurried(LONG, async {}).await, "what is done is done");
    }
}
