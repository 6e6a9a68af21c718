//! Counts running requests, so that a stopping server waits for them, and not for open but silent
//! connections.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use actix_web::dev::ServiceResponse;
use actix_web::http::header::{CONNECTION, HeaderValue};
use tokio::sync::Notify;

/// Threads count in separate cache lines: one number for all would move between their processors
/// with every request.
const SHARDS: usize = 16;

#[derive(Default)]
pub(crate) struct GracefulShutdown {
    in_flight: [Shard; SHARDS],
    stopping: AtomicBool,
    started: Notify,
    idle: Notify,
}

#[derive(Default)]
#[repr(align(128))]
struct Shard(AtomicUsize);

/// Counts a request as running until it is dropped.
pub(crate) struct InFlightGuard<'a> {
    shutdown: &'a GracefulShutdown,
    shard: &'a AtomicUsize,
}

impl GracefulShutdown {
    pub(crate) fn track(&self) -> InFlightGuard<'_> {
        thread_local! {
            static SHARD: usize = {
                static NEXT_SHARD: AtomicUsize = AtomicUsize::new(0);
                NEXT_SHARD.fetch_add(1, Ordering::Relaxed) % SHARDS
            };
        }
        let shard = &self.in_flight[SHARD.with(|index| *index)].0;
        shard.fetch_add(1, Ordering::SeqCst);
        InFlightGuard { shutdown: self, shard }
    }

    /// The number of running requests.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.iter().map(|shard| shard.0.load(Ordering::Relaxed)).sum()
    }

    /// Whether the shutdown has begun, so clients should send no more requests.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Asks the client of a response to close its connection, if the server is stopping.
    pub(crate) fn announce<B>(&self, response: &mut ServiceResponse<B>) {
        if self.is_stopping() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// Begins the shutdown: from now on, responses ask clients to close their connections.
    pub(crate) fn begin(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.started.notify_waiters();
    }

    /// Waits until the shutdown begins.
    pub(crate) async fn wait_begun(&self) {
        let started = self.started.notified();
        if !self.is_stopping() {
            started.await;
        }
    }

    /// Waits until no request runs. The shutdown must have begun.
    pub(crate) async fn wait_idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.in_flight.iter().all(|shard| shard.0.load(Ordering::SeqCst) == 0) {
                return;
            }
            idle.await;
        }
    }
}

impl Drop for InFlightGuard<'_> {
    fn drop(&mut self) {
        // `wait_idle` waits only after the shutdown has begun.
        if self.shard.fetch_sub(1, Ordering::SeqCst) == 1 && self.shutdown.is_stopping() {
            self.shutdown.idle.notify_waiters();
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
        let shutdown = GracefulShutdown::default();
        let running = shutdown.track();
        shutdown.begin();
        let mut idle = pin!(shutdown.wait_idle());
        assert!(poll!(&mut idle).is_pending());
        assert_eq!(shutdown.in_flight(), 1);
        drop(running);
        assert!(poll!(&mut idle).is_ready());
    }

    #[test]
    fn clients_of_a_server_that_stops_are_asked_to_close() {
        let shutdown = GracefulShutdown::default();
        let mut response = TestRequest::default().to_srv_response(HttpResponse::Ok().finish());
        shutdown.announce(&mut response);
        assert!(!response.headers().contains_key(CONNECTION));
        shutdown.begin();
        shutdown.announce(&mut response);
        assert_eq!(response.headers().get(CONNECTION).unwrap(), "close");
    }
}
