//! The record of a request: its session, and the number of its items.
//!
//! The request context gets the session here only: when a path that names it is read, and when a
//! response tells the id of a new session. A handler has no other way to the one or the other.

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

    /// Records the session that the request has created.
    pub(crate) fn record_session(&self, id: SessionId) {
        record_session(&self.0, id);
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

/// The only place of this API at which the request context gets a session.
pub(super) fn record_session(request: &HttpRequest, id: SessionId) {
    RequestContext::with(request, |context| context.set_session(id));
}
