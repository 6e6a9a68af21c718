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

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::middleware::Next;
use actix_web::web::{self, Bytes};
use actix_web::{Error, HttpMessage as _};
use futures_util::{Stream, StreamExt as _};
use pin_project_lite::pin_project;

use super::header_limits;
use crate::http::body::announced;
use crate::http::options::Options;
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

/// The middleware of those who need no log: for them a request with too large a head ends here.
pub(crate) async fn hold(
    options: web::Data<Options>,
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let holds = Holds::of(&mut request);
    let response = match header_limits::refusal(&options, &request) {
        Some(refused) => request.into_response(refused).map_into_right_body(),
        None => next.call(request).await?.map_into_left_body(),
    };
    Ok(holds.until_sent(response))
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
