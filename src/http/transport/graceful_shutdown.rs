//! The phases of a stop, and the counts that its last phase waits for.
//!
//! A server is *serving*. When it must stop, it is *draining*: the server answers everything, and asks
//! clients to go elsewhere. Then the server is *closing*: it accepts no connection, and closes each
//! connection that owes no response.
//!
//! A response that may last as long as its client stays, such as a stream of events, must end by
//! itself. Its handler awaits [`server_draining`] beside its events, sends its last message, and ends
//! the body. The stop waits for this as for every request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::web::Data;
use tokio::sync::{Notify, watch};

/// Threads count in separate cache lines: one number for all would move between their processors
/// with every request.
const SHARDS: usize = 16;

/// How long a closing server waits for connections that owe no response. In this time such
/// connections may still bring a request.
const QUIET_TIMEOUT: Duration = Duration::from_secs(1);

/// The phase of a server, and its open work.
#[derive(Debug, Default)]
pub(crate) struct GracefulShutdown {
    in_flight: [Shard; SHARDS],
    /// The open connections, and the threads that have not begun to close theirs.
    open: AtomicUsize,
    /// Whether the phase is later than `Serving`. Each response reads it, so it has no lock.
    is_draining: AtomicBool,
    phase: watch::Sender<ShutdownPhase>,
    /// Set when a count has reached 0.
    none_left: Notify,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum ShutdownPhase {
    #[default]
    Serving,
    Draining,
    Closing,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(AtomicUsize);

/// Counts the requests of one thread. A request is in flight from its header section until its
/// response has been written to the socket.
#[derive(Debug)]
pub(super) struct RequestCounter {
    shutdown: Arc<GracefulShutdown>,
    shard: usize,
}

/// Counts a connection as open until it is dropped.
#[derive(Debug)]
pub(super) struct OpenGuard(Arc<GracefulShutdown>);

/// The drain of the server of a request, without the request.
pub(crate) struct ServerDrain(Option<Data<GracefulShutdown>>);

impl ServerDrain {
    /// That of the server of a request.
    pub(crate) fn from_request(request: &HttpRequest) -> Self {
        Self(request.app_data::<Data<GracefulShutdown>>().cloned())
    }

    /// Waits until the server drains.
    pub(crate) async fn wait(&self) {
        match &self.0 {
            Some(shutdown) => shutdown.wait_draining().await,
            None => std::future::pending().await,
        }
    }
}

/// Waits until the server of a request drains.
pub(crate) async fn server_draining(request: &HttpRequest) {
    ServerDrain::from_request(request).wait().await;
}

impl GracefulShutdown {
    /// The number of requests in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.iter().map(|shard| shard.0.load(Ordering::SeqCst)).sum()
    }

    /// Whether the stop has begun, so clients should send their next requests elsewhere.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::SeqCst)
    }

    /// Begins the drain: from now on, clients are asked to close their connections.
    pub(crate) fn begin_drain(&self) {
        self.is_draining.store(true, Ordering::SeqCst);
        self.advance(ShutdownPhase::Draining);
    }

    /// Begins to close the connections. No more connections may be accepted.
    pub(super) fn begin_closing(&self) {
        self.begin_drain();
        self.advance(ShutdownPhase::Closing);
    }

    fn advance(&self, to: ShutdownPhase) {
        self.phase.send_if_modified(|phase| {
            let is_later = *phase < to;
            *phase = to.max(*phase);
            is_later
        });
    }

    /// Waits until the server drains.
    pub(crate) async fn wait_draining(&self) {
        self.reached(ShutdownPhase::Draining).await;
    }

    /// Waits until the server closes its connections.
    pub(crate) async fn wait_closing(&self) {
        self.reached(ShutdownPhase::Closing).await;
    }

    async fn reached(&self, target: ShutdownPhase) {
        // The wait fails only if the sender is dropped, and `self` has it.
        let _ = self.phase.subscribe().wait_for(|phase| *phase >= target).await;
    }

    /// Waits until all connections are closed. Connections that owe no response are awaited for a
    /// short time only, because their clients may be silent. The server must be closing.
    pub(super) async fn wait_closed(&self) {
        let answered = async {
            tokio::time::sleep(QUIET_TIMEOUT).await;
            self.until(|| self.in_flight() == 0).await;
        };
        tokio::select! {
            () = self.until(|| self.open.load(Ordering::SeqCst) == 0) => {}
            () = answered => {}
        }
    }

    async fn until(&self, holds: impl Fn() -> bool) {
        loop {
            let mut none_left = std::pin::pin!(self.none_left.notified());
            none_left.as_mut().enable();
            if holds() {
                return;
            }
            none_left.await;
        }
    }

    /// Counts a connection, or a thread that has not begun to close its connections.
    pub(super) fn open(self: &Arc<Self>) -> OpenGuard {
        self.open.fetch_add(1, Ordering::SeqCst);
        OpenGuard(self.clone())
    }

    /// The counter of one more thread.
    pub(super) fn counter(self: &Arc<Self>) -> RequestCounter {
        static NEXT_SHARD: AtomicUsize = AtomicUsize::new(0);
        let shard = NEXT_SHARD.fetch_add(1, Ordering::Relaxed) % SHARDS;
        RequestCounter { shutdown: self.clone(), shard }
    }

    fn notify(&self) {
        // `wait_closed` waits only after the drain has begun.
        if self.is_draining() {
            self.none_left.notify_waiters();
        }
    }
}

impl RequestCounter {
    /// Counts a request as in flight.
    pub(super) fn started(&self) {
        self.shutdown.in_flight[self.shard].0.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether the server is stopping.
    pub(super) fn is_draining(&self) -> bool {
        self.shutdown.is_draining()
    }

    /// Records that the responses of `count` requests have been written, or cannot be.
    pub(super) fn answered(&self, count: usize) {
        let before = self.shutdown.in_flight[self.shard].0.fetch_sub(count, Ordering::SeqCst);
        if before == count {
            self.shutdown.notify();
        }
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.notify();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::poll;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stops_waits_for_its_requests() {
        let shutdown = Arc::<GracefulShutdown>::default();
        let (counter, _silent) = (shutdown.counter(), shutdown.open());
        counter.started();
        counter.started();
        shutdown.begin_closing();
        let mut closed = pin!(shutdown.wait_closed());
        assert!(poll!(&mut closed).is_pending());
        tokio::time::advance(10 * QUIET_TIMEOUT).await;
        assert!(poll!(&mut closed).is_pending());
        counter.answered(1);
        assert!(poll!(&mut closed).is_pending());
        assert_eq!(shutdown.in_flight(), 1);
        counter.answered(1);
        assert!(poll!(&mut closed).is_ready(), "the silent connection is not awaited");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stops_waits_briefly_for_silent_connections() {
        let shutdown = Arc::<GracefulShutdown>::default();
        let silent = [shutdown.open(), shutdown.open()];
        shutdown.begin_closing();
        for is_closed in [false, true] {
            let mut closed = pin!(shutdown.wait_closed());
            assert!(poll!(&mut closed).is_pending());
            if is_closed {
                drop(silent);
                assert!(poll!(&mut closed).is_ready());
                return;
            }
            tokio::time::advance(QUIET_TIMEOUT).await;
            assert!(poll!(&mut closed).is_ready());
        }
    }

    #[tokio::test]
    async fn phases_follow_each_other() {
        let shutdown = GracefulShutdown::default();
        let (mut draining, mut closing) =
            (pin!(shutdown.wait_draining()), pin!(shutdown.wait_closing()));
        assert!(poll!(&mut draining).is_pending() && poll!(&mut closing).is_pending());
        shutdown.begin_drain();
        assert!(poll!(&mut draining).is_ready() && poll!(&mut closing).is_pending());
        shutdown.begin_closing();
        assert!(poll!(&mut closing).is_ready());
        // A drain that is begun once more changes nothing.
        shutdown.begin_drain();
        shutdown.wait_closing().await;
    }
}
