//! Holds two things until a response is sent: the mark of a running request, and its chunked body.
//!
//! actix goes on reading a chunked body that no handler reads any more, as long as the client
//! sends. So a client that was refused for a slow or endless body would keep its connection. While
//! the body is held, actix closes the connection after the response, as it does for bodies of known
//! length. Holding a body that was read to its end has no effect.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::HttpMessage as _;
use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::web::Bytes;
use futures_util::{Stream, StreamExt as _};
use pin_project_lite::pin_project;

use crate::http::transport::{ActiveRequest, ConnectionState};

/// A body that its handler reads, and that outlives the handler.
#[derive(Clone)]
struct SharedPayload(Rc<RefCell<Payload>>);

/// Lives until the response to its request is sent.
pub(crate) struct RequestGuard {
    _payload: Option<SharedPayload>,
    _active: Option<ActiveRequest>,
}

pin_project! {
    /// The body of a response, with the guard of its request.
    pub(crate) struct GuardedBody<B> {
        #[pin]
        body: B,
        _guard: RequestGuard,
    }
}

impl RequestGuard {
    /// Marks `request` as running, and holds its body if that is chunked.
    pub(crate) fn new(request: &mut ServiceRequest) -> Self {
        let active = request.conn_data::<Rc<ConnectionState>>().map(ConnectionState::start_request);
        Self { _payload: SharedPayload::share(request), _active: active }
    }

    /// Keeps the guard until `response` is sent.
    pub(crate) fn attach_to<B>(
        self,
        response: ServiceResponse<B>,
    ) -> ServiceResponse<GuardedBody<B>> {
        response.map_body(|_, body| GuardedBody { body, _guard: self })
    }
}

impl SharedPayload {
    /// Holds the body of `request` if the body is chunked.
    fn share(request: &mut ServiceRequest) -> Option<Self> {
        if !request.chunked().unwrap_or(false) {
            return None;
        }
        let shared = Self(Rc::new(RefCell::new(request.take_payload())));
        request.set_payload(Payload::Stream { payload: Box::pin(shared.clone()) });
        Some(shared)
    }
}

impl Stream for SharedPayload {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.borrow_mut().poll_next_unpin(cx)
    }
}

impl<B: MessageBody> MessageBody for GuardedBody<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        self.project().body.poll_next(cx)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::TRANSFER_ENCODING;
    use actix_web::test::TestRequest;

    use super::*;

    #[tokio::test]
    async fn a_chunked_body_is_read_by_its_handler_and_held_until_the_response_is_sent() {
        for (is_chunked, read) in [(true, "body"), (false, "body")] {
            let mut request = TestRequest::default().set_payload("body");
            if is_chunked {
                request = request.insert_header((TRANSFER_ENCODING, "chunked"));
            }
            let mut request = request.to_srv_request();
            let guard = RequestGuard::new(&mut request);
            assert_eq!(guard._payload.is_some(), is_chunked);
            let payload = guard._payload.as_ref().map(|payload| Rc::downgrade(&payload.0));
            let chunk = request.take_payload().next().await.unwrap().unwrap();
            assert_eq!(chunk, read);
            let is_held = || payload.as_ref().is_some_and(|payload| payload.upgrade().is_some());
            let response = guard.attach_to(request.into_response(actix_web::HttpResponse::Ok()));
            assert_eq!(is_held(), is_chunked);
            drop(response);
            assert!(!is_held());
        }
    }
}
