//! The record of a request, for facts that only the handler learns: its session, and the number of its items.

use actix_web::HttpRequest;
use tokio::time::Instant;

use crate::domain::SessionId;
use crate::http::auth::authenticate;
use crate::http::middleware::request_context::RequestContext;
use crate::http::v1::problem::Problem;
use crate::service::Caller;

/// The record of a request: in the log, and in the request rate of its app.
pub(crate) struct RequestRecord(HttpRequest);

impl RequestRecord {
    /// The record of `request`.
    pub(super) fn new(request: HttpRequest) -> Self {
        Self(request)
    }

    /// Records the session of the request.
    pub(crate) fn set_session(&self, id: SessionId) {
        RequestContext::with(&self.0, |context| context.set_session(id));
    }

    /// The request itself.
    pub(crate) fn request(&self) -> &HttpRequest {
        &self.0
    }

    /// Starts the time limit of a request that waits anew.
    pub(crate) fn restart_timeout(&self) {
        RequestContext::with(&self.0, |context| context.mark_read(Instant::now()));
    }

    /// Counts each of the `items` that a request has as a request of its app, before any is
    /// executed. The request itself counts as the first one.
    ///
    /// # Errors
    /// The app exceeds its request rate.
    pub(crate) fn count_items(&self, caller: &Caller, items: usize) -> Result<(), Problem> {
        let more = items.saturating_sub(1);
        Ok(authenticate::count_more_requests(&self.0, caller.app(), more)?)
    }

    /// Counts each of the `sessions` of a page as a request of its app, after the page was read. The
    /// request itself counts as the first one. The next request may have to wait, and this one is
    /// served.
    pub(crate) fn charge_page(&self, caller: &Caller, sessions: usize) {
        authenticate::charge_requests(&self.0, caller.app(), sessions.saturating_sub(1));
    }
}
