//! A path and its calls: picks one by the method, has it answered in time.
//!
//! The framework's own resources would do; but every layer of theirs is a future of its own in
//! memory of its own, and a session that lies in memory is read in the time that a few of those
//! take. So a call is one future, from what it reads of the request to its answer.

use std::marker::PhantomData;
use std::rc::Rc;

use actix_service::fn_service;
use actix_web::dev::{
    AppService, Extensions, HttpServiceFactory, Payload, ServiceRequest, ServiceResponse,
};
use actix_web::http::Method;
use actix_web::{Error, FromRequest, Handler, HttpRequest, HttpResponse, ResponseError, web};
use futures_util::future::LocalBoxFuture;

use super::middleware::request_metrics::Pattern;
use super::middleware::timeout;
use super::middleware::timeout::Unanswered;

/// What answers a request: a handler, and how what it takes is read.
type Call = Box<dyn Fn(HttpRequest, Payload) -> LocalBoxFuture<'static, HttpResponse>>;

/// What a handler gives: an answer, or why there is none but that.
pub(super) trait Answer {
    /// What is sent.
    fn into_response(self) -> HttpResponse;
}

impl Answer for HttpResponse {
    fn into_response(self) -> HttpResponse {
        self
    }
}

impl<E: ResponseError + 'static> Answer for Result<HttpResponse, E> {
    fn into_response(self) -> HttpResponse {
        self.unwrap_or_else(HttpResponse::from_error)
    }
}

/// How an API refuses what its handlers never see, or have no answer to in time.
pub(super) trait Refuses: ResponseError + From<Unanswered> + 'static {
    /// The path has calls, but for other methods: for these, as `Allow` lists them.
    fn method_not_allowed(allow: String) -> Self;
}

/// A path of an API that refuses with `E`, and what answers it by each method.
pub(super) struct Calls<E> {
    path: &'static str,
    pattern: Pattern,
    calls: Vec<(Method, Rc<Call>)>,
    refuses: PhantomData<fn() -> E>,
}

/// The same, served by one thread.
struct Served<E> {
    /// What tells of a request finds the pattern here.
    known: Rc<Extensions>,
    calls: Vec<(Method, Rc<Call>)>,
    refuses: PhantomData<fn() -> E>,
}

impl<E: Refuses> Calls<E> {
    /// None yet, of a path below a prefix, as both stand in the source.
    pub(super) fn at(prefix: &'static str, path: &'static str) -> Self {
        let pattern = Pattern::new(prefix, path);
        Self { path, pattern, calls: Vec::new(), refuses: PhantomData }
    }

    /// Adds a call by any of these methods.
    pub(super) fn on<H, A>(mut self, methods: &[Method], handler: H) -> Self
    where
        H: Handler<A, Output: Answer>,
        A: FromRequest + 'static,
    {
        let call = Rc::new(call(handler));
        self.calls.extend(methods.iter().map(|method| (method.clone(), call.clone())));
        self
    }
}

impl<E: Refuses> HttpServiceFactory for Calls<E> {
    fn register(self, config: &mut AppService) {
        let Self { path, pattern, calls, refuses } = self;
        let mut known = Extensions::new();
        known.insert(pattern);
        let served = Rc::new(Served { known: Rc::new(known), calls, refuses });
        let serve = fn_service(move |request| served.clone().serve(request));
        web::service(path).finish(serve).register(config);
    }
}

impl<E: Refuses> Served<E> {
    async fn serve(self: Rc<Self>, mut request: ServiceRequest) -> Result<ServiceResponse, Error> {
        request.add_data_container(self.known.clone());
        let (request, payload) = request.into_parts();
        let answer = match self.calls.iter().find(|(method, _)| method == request.method()) {
            Some((_, call)) => timeout::keep::<E>(&request, call(request.clone(), payload)).await,
            None => {
                let allow: Vec<&str> =
                    self.calls.iter().map(|(method, _)| method.as_str()).collect();
                HttpResponse::from_error(E::method_not_allowed(allow.join(", ")))
            }
        };
        Ok(ServiceResponse::new(request, answer))
    }
}

fn call<H, A>(handler: H) -> Call
where
    H: Handler<A, Output: Answer>,
    A: FromRequest + 'static,
{
    Box::new(move |request, mut payload| {
        let handler = handler.clone();
        Box::pin(async move {
            match A::from_request(&request, &mut payload).await {
                Ok(read) => handler.call(read).await.into_response(),
                Err(refusal) => HttpResponse::from_error(refusal),
            }
        })
    })
}
