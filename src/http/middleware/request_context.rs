//! The context of a request: what is learnt of it while it is served, for everything that reports on
//! it: its log line, the metrics, its span, a response that names its id.
//!
//! The context lies on the request from the beginning to the end. An error does not know its
//! request: what went wrong lies on the response, as an [`Outcome`], until [`RequestResult`] takes it
//! from there.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::time::Duration;

use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::HeaderValue;
use actix_web::{HttpMessage as _, HttpRequest};
use tokio::time::Instant;

use super::client_ip::ClientIp;
use crate::domain::{AppId, SessionId};

/// What is learnt of a request.
#[derive(Debug)]
pub(crate) struct RequestContext {
    request_id: HeaderValue,
    client_ip: ClientIp,
    started_at: Instant,
    read_at: Cell<Option<Instant>>,
    app_id: OnceCell<AppId>,
    session_id: Cell<Option<SessionId>>,
    succeeded: Cell<bool>,
}

/// What an answer says, and what it does not say.
#[derive(Clone, Debug)]
pub(crate) struct ErrorReport {
    pub(crate) status: ApiStatus,
    /// What failed in here, for operators only.
    pub(crate) cause: Option<String>,
}

/// What an answer says, as the API that gave it calls it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ApiStatus {
    /// Of `/cgi`; 0 for success.
    Errcode(i32),
    /// Of a problem of `/v1`; a success has none.
    Code(&'static str),
}

impl RequestContext {
    /// Of a request with this id, which must be text, that begins now.
    pub(crate) fn new(request_id: HeaderValue, client_ip: ClientIp) -> Rc<Self> {
        Rc::new(Self {
            request_id,
            client_ip,
            started_at: Instant::now(),
            read_at: Cell::default(),
            app_id: OnceCell::new(),
            session_id: Cell::default(),
            succeeded: Cell::default(),
        })
    }

    /// Lays the context of a request on it.
    pub(crate) fn attach(request: &ServiceRequest, id: HeaderValue, peer: ClientIp) -> Rc<Self> {
        let context = Self::new(id, peer);
        request.extensions_mut().insert(context.clone());
        context
    }

    /// What is known of `request`, if it came through the log.
    pub(crate) fn from_request(request: &HttpRequest) -> Option<Rc<Self>> {
        request.extensions().get::<Rc<Self>>().cloned()
    }

    /// Adds to what is known of `request`.
    pub(crate) fn with(request: &HttpRequest, apply: impl FnOnce(&Self)) {
        if let Some(context) = request.extensions().get::<Rc<Self>>() {
            apply(context);
        }
    }

    /// Its id.
    pub(crate) fn request_id(&self) -> &HeaderValue {
        &self.request_id
    }

    /// The same.
    pub(crate) fn request_id_str(&self) -> &str {
        self.request_id.to_str().unwrap_or_default()
    }

    /// Where it comes from.
    pub(crate) fn client_ip(&self) -> ClientIp {
        self.client_ip
    }

    /// When its head was there.
    pub(crate) fn started_at(&self) -> Instant {
        self.started_at
    }

    /// When all of it had been read, if it has.
    pub(crate) fn read_at(&self) -> Option<Instant> {
        self.read_at.get()
    }

    /// All of it has been read.
    pub(crate) fn mark_read(&self, at: Instant) {
        self.read_at.set(Some(at));
    }

    /// Who asks.
    pub(crate) fn app_id(&self) -> Option<&AppId> {
        self.app_id.get()
    }

    /// An app asks, that was let in.
    pub(crate) fn set_app(&self, app_id: &AppId) {
        self.app_id.get_or_init(|| app_id.clone());
    }

    /// Which session it is about, if it is about one.
    pub(crate) fn session_id(&self) -> Option<SessionId> {
        self.session_id.get()
    }

    /// It is about a session.
    pub(crate) fn set_session(&self, id: SessionId) {
        self.session_id.set(Some(id));
    }

    /// It was answered with a result, by an API that says so in the answer.
    pub(crate) fn mark_succeeded(&self) {
        self.succeeded.set(true);
    }

    /// What its answer said, which went wrong like that or did not.
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

/// How a request ended, for everything that reports on it.
#[derive(Debug)]
pub(crate) struct RequestResult {
    outcome: Option<ErrorReport>,
    answered: Option<ApiStatus>,
    duration: Duration,
    work_duration: Duration,
}

impl RequestResult {
    /// The result of a request whose response is ready now. Takes the [`Outcome`] off the response.
    pub(crate) fn of<B>(response: &mut ServiceResponse<B>, context: &RequestContext) -> Self {
        let outcome = response.response_mut().extensions_mut().remove::<ErrorReport>();
        let answered = context.api_status(outcome.as_ref());
        let now = Instant::now();
        let work_began = context.read_at().unwrap_or(context.started_at());
        let (duration, work_duration) = (now - context.started_at(), now - work_began);
        Self { outcome, answered, duration, work_duration }
    }

    /// What the response says, if its API says it.
    pub(crate) fn answered(&self) -> Option<ApiStatus> {
        self.answered
    }

    /// Whether the response is an error of an API.
    pub(crate) fn is_error(&self) -> bool {
        self.outcome.is_some()
    }

    /// What failed in the service, for operators only.
    pub(crate) fn cause(&self) -> Option<&str> {
        self.outcome.as_ref()?.cause.as_deref()
    }

    /// The time since the head of the request was there.
    pub(crate) fn duration(&self) -> Duration {
        self.duration
    }

    /// The time since the request had been read: how long callers take to send theirs says nothing
    /// about the service.
    pub(crate) fn work_duration(&self) -> Duration {
        self.work_duration
    }
}

#[cfg(test)]
impl RequestContext {
    /// The context of a request from nowhere.
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
    fn everything_with_the_request_sees_its_context() {
        let request = TestRequest::default().to_srv_request();
        let peer = ClientIp(std::net::Ipv4Addr::LOCALHOST.into());
        let context = RequestContext::attach(&request, HeaderValue::from_static("the-id"), peer);
        let id = "8AD595F3-73B3-4B56-90AF-F336F9222FC5".parse().unwrap();
        RequestContext::with(request.request(), |context| context.set_session(id));
        assert_eq!((context.session_id(), context.request_id_str()), (Some(id), "the-id"));
        let same = RequestContext::from_request(request.request()).unwrap();
        assert!(Rc::ptr_eq(&same, &context));
    }

    #[test]
    fn a_result_is_taken_off_the_response() {
        let context = RequestContext::for_tests("id");
        let mut response = TestRequest::default().to_srv_response(HttpResponse::Ok().finish());
        assert!(RequestResult::of(&mut response, &context).answered().is_none());
        context.mark_succeeded();
        let result = RequestResult::of(&mut response, &context);
        assert!(matches!(result.answered(), Some(ApiStatus::Errcode(0))) && !result.is_error());
        let outcome = ErrorReport { status: ApiStatus::Code("x"), cause: Some("why".to_owned()) };
        response.response_mut().extensions_mut().insert(outcome);
        let result = RequestResult::of(&mut response, &context);
        assert!(matches!(result.answered(), Some(ApiStatus::Code("x"))) && result.is_error());
        assert_eq!(result.cause(), Some("why"));
        assert!(result.work_duration() <= result.duration());
        assert!(!RequestResult::of(&mut response, &context).is_error());
    }
}
