//! Holds a chunked body until its answer is sent.
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
use actix_web::body::{BodySize, BoxBody, EitherBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::web::Bytes;
use futures_util::{Stream, StreamExt as _};

/// A body that its handler reads, and that outlives it.
#[derive(Clone)]
pub(super) struct Held(Rc<RefCell<Payload>>);

/// An answer, and the body of its request.
pub(super) struct Holding {
    answer: BoxBody,
    _held: Held,
}

impl Held {
    /// Holds the body of `request` if it is a chunked one.
    pub(super) fn of(request: &mut ServiceRequest) -> Option<Self> {
        if !request.chunked().unwrap_or(false) {
            return None;
        }
        let held = Self(Rc::new(RefCell::new(request.take_payload())));
        request.set_payload(Payload::Stream { payload: Box::pin(held.clone()) });
        Some(held)
    }

    /// Holds on until `response` is sent.
    pub(super) fn until_sent<B: MessageBody + 'static>(
        held: Option<Self>,
        response: ServiceResponse<B>,
    ) -> ServiceResponse<EitherBody<B, Holding>> {
        match held {
            None => response.map_into_left_body(),
            Some(held) => response.map_body(|_, answer| {
                EitherBody::right(Holding { answer: answer.boxed(), _held: held })
            }),
        }
    }
}

impl Stream for Held {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.borrow_mut().poll_next_unpin(cx)
    }
}

impl MessageBody for Holding {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.answer.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().answer).poll_next(cx)
    }
}
