//! Counts requests, by the route that they took.
//!
//! A path that is set up carries its pattern, and the pattern its place among the metrics, so that
//! the path of a request is never looked at. The surprise: a request that took no route carries no
//! pattern, and counts for the route "other".

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::body::MessageBody;
use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;

use super::request_context::Answered;
use crate::metrics::{Metrics, Requests, Route};

/// The pattern of a path, as it stands in the source. Belongs to one thread.
pub(crate) struct Pattern {
    prefix: &'static str,
    path: &'static str,
    route: OnceCell<Arc<Route>>,
}

impl Pattern {
    /// Of a path below a prefix.
    pub(crate) fn new(prefix: &'static str, path: &'static str) -> Self {
        Self { prefix, path, route: OnceCell::new() }
    }

    fn route(&self, requests: &Requests) -> &Route {
        self.route.get_or_init(|| requests.route(self.prefix, self.path))
    }
}

/// Counts the requests that one thread answers.
pub(crate) struct Measure {
    metrics: Arc<Metrics>,
    /// The pattern of what took no route.
    other: Pattern,
}

/// The pattern that a request took, as it stands in the source.
pub(crate) fn pattern(request: &HttpRequest) -> Option<String> {
    let Pattern { prefix, path, .. } = request.app_data::<Pattern>()?;
    Some(format!("{prefix}{path}"))
}

impl Measure {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, other: Pattern::new("", "other") }
    }

    /// Counts an answer, and what it says went wrong. It `took` so long since the request had been
    /// read: how long callers take to send theirs says nothing of the service.
    pub(crate) fn count(
        &self,
        response: &ServiceResponse<impl MessageBody>,
        took: Duration,
        answered: Option<Answered>,
    ) {
        let request = response.request();
        let requests = &self.metrics.requests;
        let status = response.status();
        match answered {
            Some(Answered::Errcode(errcode)) if errcode != 0 => {
                requests.errcode(errcode, status.as_u16());
            }
            Some(Answered::Code(code)) => requests.code(code),
            Some(Answered::Errcode(_)) | None => {}
        }
        let took = (status != StatusCode::REQUEST_TIMEOUT).then_some(took);
        let pattern = request.app_data::<Pattern>().unwrap_or(&self.other);
        pattern.route(requests).answered(request.method().as_str(), status.as_u16(), took);
    }
}
