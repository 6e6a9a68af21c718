//! Signals that the client of a request is gone.
//!
//! A client that closes its side of the connection, or resets the stream of the request, counts as
//! gone. Such a client could still read a response, but it looks the same as one that is gone.

use std::cell::Cell;

use tokio::sync::Notify;

/// A signal that is set once the client is gone.
#[derive(Debug, Default)]
pub(crate) struct DisconnectSignal {
    is_set: Cell<bool>,
    notify: Notify,
}

impl DisconnectSignal {
    /// Records that the client is gone.
    pub(crate) fn signal(&self) {
        self.is_set.set(true);
        self.notify.notify_waiters();
    }

    /// Whether the client is gone.
    pub(super) fn is_disconnected(&self) -> bool {
        self.is_set.get()
    }

    /// Waits until the client is gone.
    pub(crate) async fn disconnected(&self) {
        // Everything runs on one thread, so no signal comes between the check and the wait.
        if !self.is_disconnected() {
            self.notify.notified().await;
        }
    }
}
