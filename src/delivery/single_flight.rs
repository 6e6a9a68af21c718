//! A connection at which one statement runs at a time, beside whatever else goes on.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;

use crate::repository::dedicated_connection::DedicatedConnection;

/// How long may be waited for a connection: callbacks have time, but not for ever.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// By when a connection must be there.
pub(super) fn connect_deadline() -> Instant {
    Instant::now() + CONNECT_TIMEOUT
}

/// The connection, or what runs on it and will give a `T`.
pub(super) struct SingleFlight<T> {
    connection: Option<DedicatedConnection>,
    running: Option<RunningFuture<T>>,
}

type RunningFuture<T> = Pin<Box<dyn Future<Output = (DedicatedConnection, T)> + Send>>;

impl<T> SingleFlight<T> {
    pub(super) fn new(connection: DedicatedConnection) -> Self {
        Self { connection: Some(connection), running: None }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_none()
    }

    /// Begins `work`, if nothing runs.
    pub(super) fn start<F>(&mut self, work: impl FnOnce(DedicatedConnection) -> F)
    where
        F: Future<Output = (DedicatedConnection, T)> + Send + 'static,
    {
        if let Some(connection) = self.connection.take() {
            self.running = Some(Box::pin(work(connection)));
        }
    }

    /// Waits until what runs has ended; for ever, if nothing does. May be dropped while it waits:
    /// it goes on with the next who waits.
    pub(super) async fn join(&mut self) -> T {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        let (connection, result) = running.await;
        (self.connection, self.running) = (Some(connection), None);
        result
    }
}
