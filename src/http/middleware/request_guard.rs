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

use crate::http::body::announced;
use crate::http::transport::{Progress, Running};

/// A body that its handler reads, and that outlives it.
#[derive(Clone)]
struct Held(Rc<RefCell<Payload>>);

/// What a request holds until its answer is sent.
pub(crate) struct Holds {
    _held: Option<Held>,
    _running: Option<Running>,
}

pin_project! {
    /// An answer, and what its request holds.
    pub(crate) struct Holding<B> {
        #[pin]
        answer: B,
        _holds: Holds,
    }
}

impl Holds {
    /// What `request`, which begins to run, holds.
    pub(crate) fn of(request: &mut ServiceRequest) -> Self {
        let running = request.conn_data::<Rc<Progress>>().map(|progress| {
            let body = announced(request.headers());
            progress.begin(body.unwrap_or_default())
        });
        Self { _held: Held::of(request), _running: running }
    }

    /// Holds on until `response` is sent.
    pub(crate) fn until_sent<B>(self, response: ServiceResponse<B>) -> ServiceResponse<Holding<B>> {
        response.map_body(|_, answer| Holding { answer, _holds: self })
    }
}

impl Held {
    /// Holds the body of `request` if it is a chunked one.
    fn of(request: &mut ServiceRequest) -> Option<Self> {
        if !request.chunked().unwrap_or(false) {
            return None;
        }
        let held = Self(Rc::new(RefCell::new(request.take_payload())));
        request.set_payload(Payload::Stream { payload: Box::pin(held.clone()) });
        Some(held)
    }
}

impl Stream for Held {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.borrow_mut().poll_next_unpin(cx)
    }
}

impl<B: MessageBody> MessageBody for Holding<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.answer.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        self.project().answer.poll_next(cx)
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
            let holds = Holds::of(&mut request);
            assert_eq!(holds._held.is_some(), is_chunked);
            let payload = holds._held.as_ref().map(|held| Rc::downgrade(&held.0));
            let chunk = request.take_payload().next().await.unwrap().unwrap();
            assert_eq!(chunk, read);
            let is_held = || payload.as_ref().is_some_and(|payload| payload.upgrade().is_some());
            let response = holds.until_sent(request.into_response(actix_web::HttpResponse::Ok()));
            assert_eq!(is_held(), is_chunked);
            drop(response);
            assert!(!is_held());
        }
    }
}
