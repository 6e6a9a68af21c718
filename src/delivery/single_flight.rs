//! A connection at which one statement runs at a time, beside whatever else goes on.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;

use crate::repository::dedicated_connection::Line;

/// How long may be waited for a connection: callbacks have time, but not for ever.
const WITHIN: Duration = Duration::from_secs(10);

/// By when a connection must be there.
pub(super) fn soon() -> Instant {
    Instant::now() + WITHIN
}

/// The connection, or what runs on it and will give a `T`.
pub(super) struct Desk<T> {
    line: Option<Line>,
    running: Option<Running<T>>,
}

type Running<T> = Pin<Box<dyn Future<Output = (Line, T)> + Send>>;

impl<T> Desk<T> {
    pub(super) fn new(line: Line) -> Self {
        Self { line: Some(line), running: None }
    }

    pub(super) fn is_free(&self) -> bool {
        self.running.is_none()
    }

    /// Begins `work`, if nothing runs.
    pub(super) fn begin<F>(&mut self, work: impl FnOnce(Line) -> F)
    where
        F: Future<Output = (Line, T)> + Send + 'static,
    {
        if let Some(line) = self.line.take() {
            self.running = Some(Box::pin(work(line)));
        }
    }

    /// Waits until what runs has ended; for ever, if nothing does. May be dropped while it waits:
    /// it goes on with the next who waits.
    pub(super) async fn end(&mut self) -> T {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        let (line, done) = running.await;
        (self.line, self.running) = (Some(line), None);
        done
    }
}
