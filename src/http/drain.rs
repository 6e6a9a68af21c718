//! Knows how many requests are running, so that a stopping server waits for these and not for
//! connections that are open and silent.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

#[derive(Default)]
pub(super) struct Drain {
    running: AtomicUsize,
    stopping: AtomicBool,
    none: Notify,
}

/// A request that runs until this is dropped.
pub(super) struct Running<'a>(&'a Drain);

impl Drain {
    pub(super) fn enter(&self) -> Running<'_> {
        self.running.fetch_add(1, Ordering::SeqCst);
        Running(self)
    }

    /// Whether clients should not send more on their connections.
    pub(super) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Asks clients to close their connections, and waits until no request runs.
    pub(super) async fn drained(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        loop {
            let none = self.none.notified();
            if self.running.load(Ordering::SeqCst) == 0 {
                return;
            }
            none.await;
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.none.notify_waiters();
        }
    }
}
