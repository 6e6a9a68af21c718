//! A dedicated connection that runs one statement at a time, while the worker does other work.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;

use crate::repository::connections::dedicated_connection::DedicatedConnection;

/// The maximum wait for a connection. Callbacks are not urgent, but must not wait forever.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The deadline for a connection.
pub(super) fn connect_deadline() -> Instant {
    Instant::now() + CONNECT_TIMEOUT
}

/// The connection, or the work that uses it and returns a `T`.
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

    /// Starts `work`, if no work runs.
    pub(super) fn start<F>(&mut self, work: impl FnOnce(DedicatedConnection) -> F)
    where
        F: Future<Output = (DedicatedConnection, T)> + Send + 'static,
    {
        if let Some(connection) = self.connection.take() {
            self.running = Some(Box::pin(work(connection)));
        }
    }

    /// Waits for the running work; forever if no work runs. The future may be dropped: the next
    /// call continues the same work.
    pub(super) async fn join(&mut self) -> T {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        let (connection, result) = running.await;
        (self.connection, self.running) = (Some(connection), None);
        result
    }
}
