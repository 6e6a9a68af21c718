//! The context of a request: data that is collected while the request is served. The log line, the
//! metrics, the span and responses that name the request id read it.
//!
//! The context stays on the request from the beginning to the end. An error does not know its
//! request, so it is put on the response as an [`ErrorReport`], until [`RequestResult`] takes it
//! from there.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::time::Duration;

use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::HeaderValue;
use actix_web::{HttpMessage as _, HttpRequest};
use tokio::time::Instant;

use super::client_ip::ClientIp;
use crate::domain::{AppId, Buin, SessionId};

/// The data about a request.
#[derive(Debug)]
pub(crate) struct RequestContext {
    request_id: HeaderValue,
    client_ip: ClientIp,
    started_at: Instant,
    read_at: Cell<Option<Instant>>,
    app_id: OnceCell<AppId>,
    enterprise: Cell<Option<Buin>>,
    session_id: Cell<Option<SessionId>>,
    succeeded: Cell<bool>,
}

/// The error of a response: its public status and its internal cause.
#[derive(Clone, Debug)]
pub(crate) struct ErrorReport {
    pub(crate) status: ApiStatus,
    /// Whether the service is unavailable or busy and refused the request: nothing was done, and a later
    /// attempt can succeed.
    pub(crate) is_refusal: bool,
    /// The internal cause, for operators only.
    pub(crate) cause: Option<String>,
    /// The mistake in the request, for operators only. The service itself did not fail.
    pub(crate) reason: Option<String>,
}

/// The result that a response states, in the terms of its API.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ApiStatus {
    /// The errcode of `/cgi`; 0 for success.
    Errcode(i32),
    /// The problem code of `/v1`; a success has no code.
    Code(&'static str),
}

impl RequestContext {
    /// The context of a request that starts now. `request_id` must be text.
    pub(crate) fn new(request_id: HeaderValue, client_ip: ClientIp) -> Rc<Self> {
        Rc::new(Self {
            request_id,
            client_ip,
            started_at: Instant::now(),
            read_at: Cell::default(),
            app_id: OnceCell::new(),
            enterprise: Cell::default(),
            session_id: Cell::default(),
            succeeded: Cell::default(),
        })
    }

    /// Creates the context of a request, and attaches it to the request.
    pub(crate) fn attach(
        request: &ServiceRequest,
        id: HeaderValue,
        client_ip: ClientIp,
    ) -> Rc<Self> {
        let context = Self::new(id, client_ip);
        request.extensions_mut().insert(context.clone());
        context
    }

    /// The context of `request`, if the request passed the pipeline.
    pub(crate) fn from_request(request: &HttpRequest) -> Option<Rc<Self>> {
        request.extensions().get::<Rc<Self>>().cloned()
    }

    /// Calls `apply` with the context of `request`, if the request has one.
    pub(crate) fn with(request: &HttpRequest, apply: impl FnOnce(&Self)) {
        if let Some(context) = request.extensions().get::<Rc<Self>>() {
            apply(context);
        }
    }

    /// The id of the request.
    pub(crate) fn request_id(&self) -> &HeaderValue {
        &self.request_id
    }

    /// The id of the request, as text.
    pub(crate) fn request_id_str(&self) -> &str {
        self.request_id.to_str().unwrap_or_default()
    }

    /// The address of the client.
    pub(crate) fn client_ip(&self) -> ClientIp {
        self.client_ip
    }

    /// When the header section of the request had arrived.
    pub(crate) fn started_at(&self) -> Instant {
        self.started_at
    }

    /// When the whole request had been read, if it has.
    pub(crate) fn read_at(&self) -> Option<Instant> {
        self.read_at.get()
    }

    /// Records when the whole request had been read.
    pub(crate) fn mark_read(&self, at: Instant) {
        self.read_at.set(Some(at));
    }

    /// Records that the body of the request is still being read.
    pub(crate) fn mark_reading(&self) {
        self.read_at.set(None);
    }

    /// The app of the caller.
    pub(crate) fn app_id(&self) -> Option<&AppId> {
        self.app_id.get()
    }

    /// Records the app of the caller.
    pub(crate) fn set_app(&self, app_id: &AppId) {
        self.app_id.get_or_init(|| app_id.clone());
    }

    /// The enterprise of the caller.
    pub(crate) fn enterprise(&self) -> Option<Buin> {
        self.enterprise.get()
    }

    /// Records the enterprise of the caller.
    pub(crate) fn set_enterprise(&self, buin: Buin) {
        self.enterprise.set(Some(buin));
    }

    /// The session of the request, if the request is about one.
    pub(crate) fn session_id(&self) -> Option<SessionId> {
        self.session_id.get()
    }

    /// Records the session of the request.
    pub(crate) fn set_session(&self, id: SessionId) {
        self.session_id.set(Some(id));
    }

    /// Records a success, for an API whose responses state it.
    pub(crate) fn mark_succeeded(&self) {
        self.succeeded.set(true);
    }

    /// The status that the response states: that of `report`, or success.
    fn api_status(&self, report: Option<&ErrorReport>) -> Option<ApiStatus> {
        let success = self.succeeded.get().then_some(ApiStatus::Errcode(0));
        report.map(|report| report.status).or(success)
    }
}

impl ApiStatus {
    pub(crate) fn errcode(self) -> Option<i32> {
        match self {
            Self::Errcode(errcode) => Some(errcode),
            Self::Code(_) => None,
        }
    }

    pub(crate) fn code(self) -> Option<&'static str> {
        match self {
            Self::Errcode(_) => None,
            Self::Code(code) => Some(code),
        }
    }
}

/// The result of a request, for the log, the metrics and the span.
#[derive(Debug)]
pub(crate) struct RequestResult {
    report: Option<ErrorReport>,
    api_status: Option<ApiStatus>,
    duration: Duration,
    work_duration: Duration,
}

impl RequestResult {
    /// The result of a request whose response is ready. Takes the [`ErrorReport`] off the response.
    pub(crate) fn from_response<B>(
        response: &mut ServiceResponse<B>,
        context: &RequestContext,
    ) -> Self {
        let report = response.response_mut().extensions_mut().remove::<ErrorReport>();
        let api_status = context.api_status(report.as_ref());
        let now = Instant::now();
        let work_started_at = context.read_at().unwrap_or(context.started_at());
        let (duration, work_duration) = (now - context.started_at(), now - work_started_at);
        Self { report, api_status, duration, work_duration }
    }

    /// The status that the response states, if its API states one.
    pub(crate) fn api_status(&self) -> Option<ApiStatus> {
        self.api_status
    }

    /// Whether the response is an error of an API.
    pub(crate) fn is_error(&self) -> bool {
        self.report.is_some()
    }

    /// Whether the service itself failed. A service that is unavailable or busy refuses, and does not fail.
    pub(crate) fn is_failure(&self) -> bool {
        self.report.as_ref().is_some_and(|report| report.cause.is_some() && !report.is_refusal)
    }

    /// The internal cause of a failure or a refusal, for operators only.
    pub(crate) fn cause(&self) -> Option<&str> {
        self.report.as_ref()?.cause.as_deref()
    }

    /// The mistake in the request, for operators only.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.report.as_ref()?.reason.as_deref()
    }

    /// The time since the header section of the request arrived.
    pub(crate) fn duration(&self) -> Duration {
        self.duration
    }

    /// The time since the whole request was read. The time that a client needs to send a request
    /// says nothing about the service.
    pub(crate) fn work_duration(&self) -> Duration {
        self.work_duration
    }
}

#[cfg(test)]
impl RequestContext {
    /// A context without a known client.
    pub(crate) fn for_tests(id: &'static str) -> Rc<Self> {
        Self::new(HeaderValue::from_static(id), ClientIp(std::net::Ipv4Addr::UNSPECIFIED.into()))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::HttpResponse;
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn the_context_is_attached_to_the_request() {
        let request = TestRequest::default().to_srv_request();
        let client_ip = ClientIp(std::net::Ipv4Addr::LOCALHOST.into());
        let id = HeaderValue::from_static("the-id");
        let context = RequestContext::attach(&request, id, client_ip);
        let id = "8AD595F3-73B3-4B56-90AF-F336F9222FC5".parse().unwrap();
        RequestContext::with(request.request(), |context| context.set_session(id));
        assert_eq!((context.session_id(), context.request_id_str()), (Some(id), "the-id"));
        let same = RequestContext::from_request(request.request()).unwrap();
        assert!(Rc::ptr_eq(&same, &context));
    }

    #[test]
    fn the_result_is_removed_from_the_response() {
        let context = RequestContext::for_tests("id");
        let mut response = TestRequest::default().to_srv_response(HttpResponse::Ok().finish());
        assert!(RequestResult::from_response(&mut response, &context).api_status().is_none());
        context.mark_succeeded();
        let result = RequestResult::from_response(&mut response, &context);
        assert!(matches!(result.api_status(), Some(ApiStatus::Errcode(0))) && !result.is_error());
        let report = ErrorReport {
            status: ApiStatus::Code("x"),
            is_refusal: false,
            cause: Some("why".to_owned()),
            reason: None,
        };
        response.response_mut().extensions_mut().insert(report);
        let result = RequestResult::from_response(&mut response, &context);
        assert!(matches!(result.api_status(), Some(ApiStatus::Code("x"))) && result.is_error());
        assert_eq!(result.cause(), Some("why"));
        assert!(result.is_failure());
        assert!(result.work_duration() <= result.duration());
        assert!(!RequestResult::from_response(&mut response, &context).is_error());
    }
}
