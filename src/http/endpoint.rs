//! A path and its handlers: picks a handler by the method, enforces the request timeout, and counts
//! large responses.
//!
//! The framework's own resources are not used, because each of their layers allocates a future for
//! every request. Reading a cached session takes only as long as a few of these allocations. So a
//! call is one future here, from reading the request to its response.

use std::marker::PhantomData;
use std::rc::Rc;

use actix_service::fn_service;
use actix_web::dev::{
    AppService, Extensions, HttpServiceFactory, Payload, ServiceRequest, ServiceResponse,
};
use actix_web::http::Method;
use actix_web::{Error, FromRequest, Handler, HttpRequest, HttpResponse, ResponseError, web};
use futures_util::future::LocalBoxFuture;

use super::middleware::request_metrics::RoutePattern;
use super::middleware::timeout::NoResponse;
use super::middleware::{response_budget, timeout};

/// A handler, together with the extraction of its arguments.
type BoxedHandler = Box<dyn Fn(HttpRequest, Payload) -> LocalBoxFuture<'static, HttpResponse>>;

/// The result of a handler.
pub(super) trait IntoHttpResponse {
    /// Converts the result to a response.
    fn into_response(self) -> HttpResponse;
}

impl IntoHttpResponse for HttpResponse {
    fn into_response(self) -> HttpResponse {
        self
    }
}

impl<E: ResponseError + 'static> IntoHttpResponse for Result<HttpResponse, E> {
    fn into_response(self) -> HttpResponse {
        self.unwrap_or_else(HttpResponse::from_error)
    }
}

/// The errors of an API outside its handlers: a wrong method, or no response in time.
pub(super) trait ApiError: ResponseError + From<NoResponse> + 'static {
    /// The path has handlers for other methods than `got` only; `allow` lists them for the `Allow` header.
    fn method_not_allowed(allow: String, got: &Method) -> Self;
}

/// A path of an API with errors `E`, and its handler for each method.
pub(super) struct Endpoint<E> {
    path: &'static str,
    pattern: RoutePattern,
    handlers: Vec<MethodHandler>,
    error: PhantomData<fn() -> E>,
}

/// The handler of a method.
struct MethodHandler {
    method: Method,
    handler: Rc<BoxedHandler>,
    /// Whether the handler changes nothing.
    is_read: bool,
}

/// An [`Endpoint`] on one thread.
struct EndpointService<E> {
    /// Metrics and traces find the route pattern here.
    app_data: Rc<Extensions>,
    handlers: Vec<MethodHandler>,
    error: PhantomData<fn() -> E>,
}

impl<E: ApiError> Endpoint<E> {
    /// An endpoint without handlers, for a path below a prefix.
    pub(super) fn new(prefix: &'static str, path: &'static str) -> Self {
        let pattern = RoutePattern::new(prefix, path);
        Self { path, pattern, handlers: Vec::new(), error: PhantomData }
    }

    /// Adds a handler for these methods.
    pub(super) fn method<H, A>(self, methods: &[Method], handler: H) -> Self
    where
        H: Handler<A, Output: IntoHttpResponse>,
        A: FromRequest + 'static,
    {
        self.add(methods, handler, Method::is_safe)
    }

    /// Adds a handler for a `POST` that changes nothing.
    pub(super) fn read_by_post<H, A>(self, handler: H) -> Self
    where
        H: Handler<A, Output: IntoHttpResponse>,
        A: FromRequest + 'static,
    {
        self.add(&[Method::POST], handler, |_| true)
    }

    fn add<H, A>(mut self, methods: &[Method], handler: H, is_read: fn(&Method) -> bool) -> Self
    where
        H: Handler<A, Output: IntoHttpResponse>,
        A: FromRequest + 'static,
    {
        let boxed = Rc::new(boxed_handler(handler));
        self.handlers.extend(methods.iter().map(|method| MethodHandler {
            method: method.clone(),
            handler: boxed.clone(),
            is_read: is_read(method),
        }));
        self
    }
}

impl<E: ApiError> HttpServiceFactory for Endpoint<E> {
    fn register(self, config: &mut AppService) {
        let Self { path, pattern, handlers, error } = self;
        let mut app_data = Extensions::new();
        app_data.insert(pattern);
        let service = Rc::new(EndpointService { app_data: Rc::new(app_data), handlers, error });
        let serve = fn_service(move |request| service.clone().serve(request));
        web::service(path).finish(serve).register(config);
    }
}

impl<E: ApiError> EndpointService<E> {
    async fn serve(self: Rc<Self>, mut request: ServiceRequest) -> Result<ServiceResponse, Error> {
        request.add_data_container(self.app_data.clone());
        let (request, payload) = request.into_parts();
        let mut handlers = self.handlers.iter();
        let response = match handlers.find(|handler| handler.method == *request.method()) {
            Some(MethodHandler { handler, is_read, .. }) => {
                let answering = handler(request.clone(), payload);
                let response = timeout::with_deadline::<E>(&request, answering).await;
                response_budget::count(&request, response, *is_read)
                    .unwrap_or_else(|error| HttpResponse::from_error(E::from(error)))
            }
            None => {
                let allow: Vec<&str> =
                    self.handlers.iter().map(|handler| handler.method.as_str()).collect();
                HttpResponse::from_error(E::method_not_allowed(allow.join(", "), request.method()))
            }
        };
        Ok(ServiceResponse::new(request, response))
    }
}

fn boxed_handler<H, A>(handler: H) -> BoxedHandler
where
    H: Handler<A, Output: IntoHttpResponse>,
    A: FromRequest + 'static,
{
    Box::new(move |request, mut payload| {
        let handler = handler.clone();
        Box::pin(async move {
            match A::from_request(&request, &mut payload).await {
                Ok(arguments) => handler.call(arguments).await.into_response(),
                Err(error) => HttpResponse::from_error(error),
            }
        })
    })
}
