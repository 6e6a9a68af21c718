//! Notifies the callback worker when a session changes.

use std::collections::HashSet;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::domain::Buin;

/// Wakes one task when a session of certain enterprises changes. Other enterprises do not wake it,
/// because a useless wake-up costs more than the change itself.
#[derive(Debug, Default)]
pub struct ChangeNotifier {
    interest: ArcSwap<HashSet<Buin>>,
    notify: Notify,
}

impl ChangeNotifier {
    /// Reports that a session of an enterprise has changed.
    pub(super) fn notify(&self, buin: Buin) {
        if self.interest.load().contains(&buin) {
            self.notify.notify_one();
        }
    }

    /// Sets the enterprises whose changes wake the task. A change just before the call may be
    /// missed, so the caller must check for work once after it.
    pub fn set_interest(&self, buins: HashSet<Buin>) {
        self.interest.store(buins.into());
    }

    /// Whether any enterprise was chosen.
    pub(super) fn has_interest(&self) -> bool {
        !self.interest.load().is_empty()
    }

    /// Waits until a change is reported.
    pub async fn notified(&self) {
        self.notify.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn only_changes_of_chosen_enterprises_wake_the_task() {
        let [chosen, other] = [1, 2].map(|number| Buin::new(number).unwrap());
        let notifier = ChangeNotifier::default();
        let is_notified = || notifier.notified().now_or_never().is_some();
        notifier.notify(chosen);
        assert!(!is_notified(), "no enterprise was chosen");
        notifier.set_interest([chosen].into());
        notifier.notify(other);
        assert!(!is_notified(), "another enterprise");
        notifier.notify(chosen);
        assert!(is_notified());
    }
}
