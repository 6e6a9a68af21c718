//! Whether the client of a request is still there.
//!
//! A client that closes its side of the connection, or resets the stream of the request, does not
//! wait for the answer any more. That it might still read one is not assumed, as elsewhere on the
//! web: who is gone looks the same.

use std::cell::Cell;

use tokio::sync::Notify;

/// A client, while it may be there.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    over: Cell<bool>,
    ends: Notify,
}

impl Presence {
    /// It is gone.
    pub(super) fn end(&self) {
        self.over.set(true);
        self.ends.notify_waiters();
    }

    /// Whether it is gone.
    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// Waits until it is gone.
    pub(crate) async fn over(&self) {
        // All of this is on one thread: nothing comes between the question and the wait.
        if !self.is_over() {
            self.ends.notified().await;
        }
    }
}
