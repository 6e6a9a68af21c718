//! What lasts until an answer is sent: that its request runs, and its body if that is a chunked one.
//!
//! actix goes on reading a chunked body that nobody wants any more, for as long as its sender goes
//! on: whoever was refused for a slow or endless one would keep the connection. While somebody
//! holds the body, actix closes the connection behind the answer, as it does for bodies of known
//! length; one that was read to its end makes no difference.

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

use crate::http::body::content_length;
use crate::http::transport::{ActiveRequest, ConnectionState};

/// A body that its handler reads, and that outlives it.
#[derive(Clone)]
struct SharedPayload(Rc<RefCell<Payload>>);

/// What a request holds until its answer is sent.
pub(crate) struct RequestGuard {
    _payload: Option<SharedPayload>,
    _active: Option<ActiveRequest>,
}

pin_project! {
    /// An answer, and what its request holds.
    pub(crate) struct GuardedBody<B> {
        #[pin]
        body: B,
        _guard: RequestGuard,
    }
}

impl RequestGuard {
    /// What `request`, which begins to run, holds.
    pub(crate) fn new(request: &mut ServiceRequest) -> Self {
        let running = request.conn_data::<Rc<ConnectionState>>().map(|progress| {
            let body = content_length(request.headers());
            progress.start_request(body.unwrap_or_default())
        });
        Self { _payload: SharedPayload::share(request), _active: running }
    }

    /// Holds on until `response` is sent.
    pub(crate) fn attach_to<B>(
        self,
        response: ServiceResponse<B>,
    ) -> ServiceResponse<GuardedBody<B>> {
        response.map_body(|_, answer| GuardedBody { body: answer, _guard: self })
    }
}

impl SharedPayload {
    /// Holds the body of `request` if it is a chunked one.
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
            let holds = RequestGuard::new(&mut request);
            assert_eq!(holds._payload.is_some(), is_chunked);
            let payload = holds._payload.as_ref().map(|held| Rc::downgrade(&held.0));
            let chunk = request.take_payload().next().await.unwrap().unwrap();
            assert_eq!(chunk, read);
            let is_held = || payload.as_ref().is_some_and(|payload| payload.upgrade().is_some());
            let response = holds.attach_to(request.into_response(actix_web::HttpResponse::Ok()));
            assert_eq!(is_held(), is_chunked);
            drop(response);
            assert!(!is_held());
        }
    }
}
