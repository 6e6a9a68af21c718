//! How whoever sends callbacks learns that a session has changed here.

use std::collections::HashSet;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::domain::Buin;

/// Wakes one who waits for changes in certain enterprises, and for no others: to wake a thread for
/// nothing costs more than the change.
#[derive(Debug, Default)]
pub struct Changed {
    wanted: ArcSwap<HashSet<Buin>>,
    notify: Notify,
}

impl Changed {
    /// A session of an enterprise has changed.
    pub(super) fn tell(&self, buin: Buin) {
        if self.wanted.load().contains(&buin) {
            self.notify.notify_one();
        }
    }

    /// Of which enterprises to be told from now on. A change just before may not be told; it is
    /// found by looking.
    pub fn want(&self, buins: HashSet<Buin>) {
        self.wanted.store(buins.into());
    }

    /// Waits for a change.
    pub async fn heard(&self) {
        self.notify.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn only_what_is_wanted_is_told() {
        let [one, other] = [1, 2].map(|number| Buin::new(number).unwrap());
        let changed = Changed::default();
        let heard = || changed.heard().now_or_never().is_some();
        changed.tell(one);
        assert!(!heard(), "nobody wanted it");
        changed.want([one].into());
        changed.tell(other);
        assert!(!heard(), "another enterprise");
        changed.tell(one);
        assert!(heard());
    }
}
