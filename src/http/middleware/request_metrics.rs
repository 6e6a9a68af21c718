//! Counts requests, by route.
//!
//! A registered path holds its pattern, and the pattern holds its counters, so the path of a
//! request is never read. The surprise: a request that matched no route has no pattern, and counts
//! for the route "other".

use std::cell::OnceCell;
use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::body::MessageBody;
use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;

use super::request_context::{ApiStatus, RequestResult};
use crate::metrics::{Metrics, Requests, Route};

/// The pattern of a route, as in the source. Belongs to one thread.
pub(crate) struct RoutePattern {
    prefix: &'static str,
    path: &'static str,
    route: OnceCell<Arc<Route>>,
}

impl RoutePattern {
    /// The pattern of a path below a prefix.
    pub(crate) fn new(prefix: &'static str, path: &'static str) -> Self {
        Self { prefix, path, route: OnceCell::new() }
    }

    fn route(&self, requests: &Requests) -> &Route {
        self.route.get_or_init(|| requests.route(self.prefix, self.path))
    }
}

/// Counts the requests that one thread answers.
pub(crate) struct RequestMetrics {
    metrics: Arc<Metrics>,
    /// The pattern of requests that matched no route.
    unmatched: RoutePattern,
}

/// The pattern of the route that a request matched, as in the source.
pub(crate) fn route_pattern(request: &HttpRequest) -> Option<String> {
    let RoutePattern { prefix, path, .. } = request.app_data::<RoutePattern>()?;
    Some(format!("{prefix}{path}"))
}

impl RequestMetrics {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, unmatched: RoutePattern::new("", "other") }
    }

    /// Counts a response and its error.
    pub(crate) fn record(
        &self,
        response: &ServiceResponse<impl MessageBody>,
        result: &RequestResult,
    ) {
        let request = response.request();
        let requests = &self.metrics.requests;
        let status = response.status();
        match result.api_status() {
            Some(ApiStatus::Errcode(errcode)) if errcode != 0 => {
                requests.errcode(errcode, status.as_u16());
            }
            Some(ApiStatus::Code(code)) => requests.code(code),
            Some(ApiStatus::Errcode(_)) | None => {}
        }
        let duration = (status != StatusCode::REQUEST_TIMEOUT).then_some(result.work_duration());
        let pattern = request.app_data::<RoutePattern>().unwrap_or(&self.unmatched);
        pattern.route(requests).record(request.method().as_str(), status.as_u16(), duration);
    }
}

#[cfg(test)]
mod tests {
    use actix_web::HttpResponse;
    use actix_web::test::TestRequest;

    use super::*;
    use crate::http::middleware::request_context::{ErrorReport, RequestContext};
    use crate::metrics::{Format, MetricsSnapshot, text};

    #[test]
    fn a_response_is_counted_by_route_and_by_error() {
        let totals = Arc::<Metrics>::default();
        let metrics = RequestMetrics::new(totals.clone());
        let context = RequestContext::for_tests("id");
        let requests = [
            TestRequest::default().app_data(RoutePattern::new("/v1", "/sessions")),
            TestRequest::with_uri("/unknown"),
        ];
        for request in requests {
            let mut response = request.to_srv_response(HttpResponse::NotFound().finish());
            let report = ErrorReport {
                status: ApiStatus::Code("endpoint_not_found"),
                is_refusal: false,
                cause: None,
                reason: None,
            };
            response.response_mut().extensions_mut().insert(report);
            let result = RequestResult::from_response(&mut response, &context);
            metrics.record(&response, &result);
        }
        let text = text(totals, MetricsSnapshot::default(), Format::Prometheus).unwrap();
        for (part, count) in [("route=\"/v1/sessions\"", 1), ("route=\"other\"", 1)] {
            let line = |line: &&str| line.contains("_requests_total") && line.contains(part);
            let line = text.lines().find(line);
            assert!(
                line.is_some_and(|line| line.ends_with(&format!(" {count}"))),
                "{part}: {text}"
            );
        }
        let code =
            |line: &str| line.contains("code=\"endpoint_not_found\"") && line.ends_with(" 2");
        assert!(text.lines().any(code), "{text}");
    }
}
