//! The span of a request, in the trace of its caller.
//!
//! Its attributes are the route, a known method, the status, a code and the id of the app: never
//! the path, the query or a header. Without a collector no span is created, and the only cost is
//! one header lookup. The trace of the caller is still passed on.

use actix_web::HttpRequest;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::HeaderName;

use super::request_context::{ApiStatus, RequestContext, RequestResult};
use super::request_metrics;
use crate::telemetry::{Span, Trace, Traces};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The span of a running request, if there is a collector, and its trace, if it has one.
pub(crate) struct RequestSpan {
    trace: Option<Trace>,
    span: Option<Span>,
}

impl RequestSpan {
    /// Starts the span of `request`.
    pub(crate) fn start(traces: &Traces, request: &ServiceRequest) -> Self {
        let parent = parse_traceparent(request);
        match traces.request(parent.as_ref()) {
            Some(span) => Self { trace: Some(span.trace().clone()), span: Some(span) },
            None => Self { trace: parent, span: None },
        }
    }

    /// The trace of the request, if it has one.
    pub(crate) fn trace(&self) -> Option<&Trace> {
        self.trace.as_ref()
    }

    /// Ends the span with the results of the response and the context.
    pub(crate) fn finish(
        self,
        response: &ServiceResponse<impl MessageBody>,
        context: &RequestContext,
        result: &RequestResult,
    ) {
        let Some(mut span) = self.span.filter(Span::is_recording) else { return };
        let request = response.request();
        let method = method(request);
        span.set_attribute("http.request.method", method);
        match request_metrics::route_pattern(request) {
            Some(route) => {
                span.rename(format!("{method} {route}"));
                span.set_attribute("http.route", route);
            }
            None => span.rename(method.to_owned()),
        }
        let status = response.status();
        span.set_attribute("http.response.status_code", i64::from(status.as_u16()));
        match result.api_status() {
            Some(ApiStatus::Errcode(errcode)) => {
                span.set_attribute("muster.errcode", i64::from(errcode));
            }
            Some(ApiStatus::Code(code)) => span.set_attribute("muster.code", code),
            None => {}
        }
        if let Some(app_id) = context.app_id() {
            span.set_attribute("muster.app_id", app_id.as_str().to_owned());
        }
        if result.cause().is_some() || status.is_server_error() {
            span.mark_failed();
        }
    }
}

/// The trace of the caller, if the request has exactly one `traceparent` header.
fn parse_traceparent(request: &ServiceRequest) -> Option<Trace> {
    let mut values = request.headers().get_all(TRACEPARENT);
    match (values.next(), values.next()) {
        (Some(value), None) => Trace::parse(value.to_str().ok()?),
        _ => None,
    }
}

/// The method, or `_OTHER` for an unknown one: a caller may send any word.
fn method(request: &HttpRequest) -> &'static str {
    const KNOWN_METHODS: [&str; 9] =
        ["GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", "OPTIONS", "CONNECT", "TRACE"];
    KNOWN_METHODS.into_iter().find(|name| *name == request.method().as_str()).unwrap_or("_OTHER")
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_trace_of_a_caller_is_carried_without_a_collector() {
        let traced = |values: &[&'static str]| {
            let mut request = TestRequest::default();
            for value in values {
                request = request.append_header((TRACEPARENT, *value));
            }
            let traced = RequestSpan::start(&Traces::default(), &request.to_srv_request());
            assert!(traced.span.is_none());
            traced.trace().map(Trace::traceparent)
        };
        assert_eq!(traced(&[PARENT]).as_deref(), Some(PARENT));
        assert_eq!(traced(&[]), None);
        assert_eq!(traced(&[PARENT, PARENT]), None, "only one caller can be the parent");
    }

    #[test]
    fn unknown_method_is_reported_as_other() {
        let method = |name: &str| {
            let name = actix_web::http::Method::from_bytes(name.as_bytes()).unwrap();
            method(&TestRequest::default().method(name).to_http_request())
        };
        assert_eq!((method("PATCH"), method("BREW")), ("PATCH", "_OTHER"));
    }
}
