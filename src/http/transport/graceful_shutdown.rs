//! Knows how many requests are running, so that a stopping server waits for these and not for
//! connections that are open and silent.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use actix_web::dev::ServiceResponse;
use actix_web::http::header::{CONNECTION, HeaderValue};
use tokio::sync::Notify;

/// Threads count apart, each in a line of memory of its own: one number for all would go back and
/// forth between their processors with every request.
const COUNTS: usize = 16;

#[derive(Default)]
pub(crate) struct Drain {
    running: [Count; COUNTS],
    stopping: AtomicBool,
    stopped: Notify,
    none: Notify,
}

#[derive(Default)]
#[repr(align(128))]
struct Count(AtomicUsize);

/// A request that runs until this is dropped.
pub(crate) struct Running<'a> {
    drain: &'a Drain,
    count: &'a AtomicUsize,
}

impl Drain {
    pub(crate) fn enter(&self) -> Running<'_> {
        thread_local! {
            static PLACE: usize = {
                static NEXT: AtomicUsize = AtomicUsize::new(0);
                NEXT.fetch_add(1, Ordering::Relaxed) % COUNTS
            };
        }
        let count = &self.running[PLACE.with(|place| *place)].0;
        count.fetch_add(1, Ordering::SeqCst);
        Running { drain: self, count }
    }

    /// How many requests run.
    pub(crate) fn running(&self) -> usize {
        self.running.iter().map(|count| count.0.load(Ordering::Relaxed)).sum()
    }

    /// Whether clients should not send more on their connections.
    pub(crate) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Asks the client of a response to close its connection, if the server stops.
    pub(crate) fn announce<B>(&self, response: &mut ServiceResponse<B>) {
        if self.stopping() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// Asks clients to close their connections.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.stopped.notify_waiters();
    }

    /// Waits until clients should not send more on their connections.
    pub(crate) async fn stopped(&self) {
        let stopped = self.stopped.notified();
        if !self.stopping() {
            stopped.await;
        }
    }

    /// Waits until no request runs on a server that stops.
    pub(crate) async fn drained(&self) {
        loop {
            let none = self.none.notified();
            if self.running.iter().all(|count| count.0.load(Ordering::SeqCst) == 0) {
                return;
            }
            none.await;
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // Nobody waits before the server stops.
        if self.count.fetch_sub(1, Ordering::SeqCst) == 1 && self.drain.stopping() {
            self.drain.none.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use actix_web::HttpResponse;
    use actix_web::test::TestRequest;
    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn a_server_that_stops_waits_for_its_requests() {
        let drain = Drain::default();
        let running = drain.enter();
        drain.stop();
        let mut drained = pin!(drain.drained());
        assert!(poll!(&mut drained).is_pending());
        assert_eq!(drain.running(), 1);
        drop(running);
        assert!(poll!(&mut drained).is_ready());
    }

    #[test]
    fn clients_of_a_server_that_stops_are_asked_to_close() {
        let drain = Drain::default();
        let mut response = TestRequest::default().to_srv_response(HttpResponse::Ok().finish());
        drain.announce(&mut response);
        assert!(!response.headers().contains_key(CONNECTION));
        drain.stop();
        drain.announce(&mut response);
        assert_eq!(response.headers().get(CONNECTION).unwrap(), "close");
    }
}
