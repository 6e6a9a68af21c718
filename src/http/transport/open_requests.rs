//! The requests of one connection that are in flight: those that run, and those whose responses are
//! complete but not written to the socket.

use std::cell::Cell;
use std::rc::Rc;

use super::graceful_shutdown::RequestCounter;

/// The requests in flight of one connection, which also count for the whole server.
#[derive(Debug)]
pub(super) struct OpenRequests {
    running: Cell<usize>,
    unwritten: Cell<usize>,
    /// Whether a response asked the client to close the connection.
    is_close_announced: Cell<bool>,
    counter: Rc<RequestCounter>,
}

impl OpenRequests {
    pub(super) fn new(counter: Rc<RequestCounter>) -> Self {
        Self {
            running: Cell::default(),
            unwritten: Cell::default(),
            is_close_announced: Cell::default(),
            counter,
        }
    }

    /// Records the start of a request.
    pub(super) fn on_start(&self) {
        self.running.set(self.running.get() + 1);
        self.counter.started();
    }

    /// Records that the response of a request is complete.
    pub(super) fn on_complete(&self) {
        self.running.set(self.running.get() - 1);
        self.unwritten.set(self.unwritten.get() + 1);
    }

    /// Records that all complete responses have been written to the socket, or cannot be. Returns
    /// whether there were any.
    pub(super) fn on_written(&self) -> bool {
        let written = self.unwritten.take();
        if written > 0 {
            self.counter.answered(written);
        }
        written > 0
    }

    /// Whether a request runs.
    pub(super) fn is_running(&self) -> bool {
        self.running.get() > 0
    }

    /// Whether a request is in flight.
    pub(super) fn is_in_flight(&self) -> bool {
        self.is_running() || self.unwritten.get() > 0
    }

    /// Records that a response asks the client to close the connection.
    pub(super) fn announce_close(&self) {
        self.is_close_announced.set(true);
    }

    /// Whether an earlier response asked the client to close the connection. The client does not read
    /// the responses to further requests, which the framework has read already (RFC 9112, 9.6).
    pub(super) fn is_close_announced(&self) -> bool {
        self.is_close_announced.get()
    }

    /// Whether the server is stopping.
    pub(super) fn is_server_draining(&self) -> bool {
        self.counter.is_draining()
    }
}

impl Drop for OpenRequests {
    fn drop(&mut self) {
        // The connection has ended, so nothing more can be written.
        self.on_written();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::graceful_shutdown::GracefulShutdown;
    use super::*;

    #[test]
    fn request_is_in_flight_until_its_response_is_written() {
        let shutdown = Arc::<GracefulShutdown>::default();
        let requests = OpenRequests::new(Rc::new(shutdown.counter()));
        requests.on_start();
        requests.on_start();
        assert_eq!(shutdown.in_flight(), 2);
        requests.on_complete();
        assert!(requests.is_running());
        assert_eq!(shutdown.in_flight(), 2, "complete, and not written");
        assert!(requests.on_written() && !requests.on_written());
        assert_eq!(shutdown.in_flight(), 1);
        requests.on_complete();
        assert!(!requests.is_running() && requests.is_in_flight());
        drop(requests);
        assert_eq!(shutdown.in_flight(), 0, "a lost connection answers nothing more");
    }
}
