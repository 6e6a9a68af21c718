//! The line in the log at the end of a stream. The line of its request is written at the begin.

use actix_web::HttpRequest;
use tokio::time::Instant;

use crate::http::middleware::request_context::RequestContext;

/// The reason why a stream ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum StreamEnd {
    ClientGone,
    ServerStops,
    NotAuthorized,
    TooSlow,
    Failed,
}

/// Writes a line when the stream ends.
pub(super) struct StreamLog {
    pub(super) request_id: String,
    /// The changes that were sent.
    pub(super) events: usize,
    pub(super) end: StreamEnd,
    started_at: Instant,
}

impl StreamLog {
    pub(super) fn new(http: &HttpRequest) -> Self {
        let context = RequestContext::from_request(http);
        let request_id = context.map(|context| context.request_id_str().to_owned());
        let request_id = request_id.unwrap_or_default();
        // A stream that is dropped has lost its client.
        Self { request_id, events: 0, end: StreamEnd::ClientGone, started_at: Instant::now() }
    }
}

impl Drop for StreamLog {
    fn drop(&mut self) {
        tracing::info!(
            request_id = self.request_id,
            events = self.events,
            duration_ms = self.started_at.elapsed().as_micros() as f64 / 1_000.0,
            end = ?self.end,
            "stream ended"
        );
    }
}
