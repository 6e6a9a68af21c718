//! `Expect: 100-continue`: the client sends the body of its request only after the response 100.
//!
//! The server sends 100 when the handler reads the body for the first time. Errors of the credential,
//! of the declared length or of the path are sent before that, so the client need not send a body that
//! is refused anyway.
//!
//! The surprise: the framework calls a service of its own kind for these requests, and sends 100 when
//! the service returns. So this service ([`answer_or_ask`]) runs the application until the handler reads
//! the body, and then returns. The framework sends 100 and calls the application, where [`resume_calls`]
//! continues the handler that already runs.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_http::{HttpMessage as _, Payload, Request, Response};
use actix_service::{Service, apply_fn, fn_service};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::error::PayloadError;
use actix_web::http::header::EXPECT;
use actix_web::web::Bytes;
use actix_web::{Error, HttpRequest};
use futures_util::future::{Either, LocalBoxFuture};
use futures_util::{Stream, StreamExt as _};

/// Whether the handler has begun to read a body that the client sends only after the response 100.
#[derive(Debug, Default)]
pub(super) struct BodyDemand(Cell<bool>);

/// A body that the client sends only after the response 100.
struct AwaitedBody {
    body: Payload,
    demand: Rc<BodyDemand>,
}

/// The response to a request whose body was not read.
pub(super) struct FinalResponse(Response<BoxBody>);

/// A call of the application that waits for its body.
type RunningCall<B> = LocalBoxFuture<'static, Result<ServiceResponse<B>, Error>>;

impl BodyDemand {
    /// Whether the response 100 must be sent.
    pub(super) fn is_requested(&self) -> bool {
        self.0.get()
    }
}

/// Whether the client of `request` waits for the response 100. The framework finds this out by itself for
/// HTTP/1, so only HTTP/2 needs the function.
pub(super) fn expects_continue(request: &Request) -> bool {
    let expectations = request.head().headers().get_all(EXPECT);
    let mut items = expectations.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    items.any(|item| item.trim_ascii().eq_ignore_ascii_case(b"100-continue"))
}

/// Records when the handler begins to read the body of `request`, whose client waits for the response
/// 100. Returns `None` if the request has no body.
pub(super) fn await_demand(request: &mut Request) -> Option<Rc<BodyDemand>> {
    if matches!(request.payload(), Payload::None) {
        return None;
    }
    let demand = Rc::<BodyDemand>::default();
    let body = request.take_payload();
    let awaited = AwaitedBody { body, demand: demand.clone() };
    *request.payload() = Payload::Stream { payload: Box::pin(awaited) };
    request.extensions_mut().insert(demand.clone());
    Some(demand)
}

/// Whether the client of a request still waits for the response 100. If the server does not send it, the
/// client need not send the body, and the connection ends after the response.
pub(crate) fn is_body_awaited(request: &HttpRequest) -> bool {
    let extensions = request.extensions();
    extensions.get::<Rc<BodyDemand>>().is_some_and(|demand| !demand.is_requested())
}

impl Stream for AwaitedBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.demand.0.replace(true) {
            // The response 100 is sent between this poll and the next one.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.body.poll_next_unpin(cx)
    }
}

/// The service that the framework calls for HTTP/1 requests whose client waits for the response 100. It
/// returns a request for [`resume_calls`], or the final response as an error.
pub(super) fn answer_or_ask<S, B>(
    app: Rc<S>,
) -> impl Service<Request, Response = Request, Error = FinalResponse> + 'static
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    fn_service(move |mut request: Request| {
        let demand = await_demand(&mut request);
        let mut running: RunningCall<B> = Box::pin(app.call(request));
        async move {
            let is_requested = || demand.as_ref().is_some_and(|demand| demand.is_requested());
            let answered = poll_fn(|cx| match running.as_mut().poll(cx) {
                Poll::Ready(answered) => Poll::Ready(Some(answered)),
                Poll::Pending if is_requested() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            });
            match answered.await {
                Some(answered) => Err(answered.into()),
                None => {
                    let request = Request::new();
                    request.extensions_mut().insert(running);
                    Ok(request)
                }
            }
        }
    })
}

/// An application that continues the calls that wait for their bodies.
pub(super) fn resume_calls<S, B>(
    app: Rc<S>,
) -> impl Service<Request, Response = ServiceResponse<B>, Error = Error> + 'static
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: 'static,
{
    apply_fn(app, |request: Request, app: &Rc<S>| {
        let running = request.extensions_mut().remove::<RunningCall<B>>();
        match running {
            Some(running) => Either::Left(running),
            None => Either::Right(app.call(request)),
        }
    })
}

impl<B: MessageBody + 'static> From<Result<ServiceResponse<B>, Error>> for FinalResponse {
    fn from(answered: Result<ServiceResponse<B>, Error>) -> Self {
        Self(match answered {
            Ok(response) => Response::from(response).map_into_boxed_body(),
            Err(error) => error.into(),
        })
    }
}

impl From<FinalResponse> for Response<BoxBody> {
    fn from(FinalResponse(response): FinalResponse) -> Self {
        response
    }
}
