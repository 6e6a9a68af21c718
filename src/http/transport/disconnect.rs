//! Whether the client of a request is still there.
//!
//! A client that closes its side of the connection, or resets the stream of the request, does not
//! wait for the answer any more. That it might still read one is not assumed, as elsewhere on the
//! web: who is gone looks the same.

use std::cell::Cell;

use tokio::sync::Notify;

/// A client, while it may be there.
#[derive(Debug, Default)]
pub(crate) struct DisconnectSignal {
    is_set: Cell<bool>,
    notify: Notify,
}

impl DisconnectSignal {
    /// It is gone.
    pub(super) fn signal(&self) {
        self.is_set.set(true);
        self.notify.notify_waiters();
    }

    /// Whether it is gone.
    pub(super) fn is_disconnected(&self) -> bool {
        self.is_set.get()
    }

    /// Waits until it is gone.
    pub(crate) async fn disconnected(&self) {
        // All of this is on one thread: nothing comes between the question and the wait.
        if !self.is_disconnected() {
            self.notify.notified().await;
        }
    }
}
