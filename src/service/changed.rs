//! How whoever sends callbacks learns that a session has changed here.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Wakes one who waits for changes, if that one wants to be woken: to wake a thread for nothing
/// costs more than the change.
#[derive(Debug, Default)]
pub struct Changed {
    wanted: AtomicBool,
    notify: Notify,
}

impl Changed {
    /// A session has changed.
    pub(super) fn tell(&self) {
        if self.wanted.load(Ordering::Relaxed) {
            self.notify.notify_one();
        }
    }

    /// Whether to be told. A change just before may not be told; it is found by looking.
    pub fn want(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::Relaxed);
    }

    /// Waits for a change.
    pub async fn heard(&self) {
        self.notify.notified().await;
    }
}
