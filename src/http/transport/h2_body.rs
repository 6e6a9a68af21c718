//! The body of a response over HTTP/2.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use actix_web::body::MessageBody;
use actix_web::web::Bytes;
use h2::SendStream;

/// The next part of a body. A body that waits for its next part ends when the client resets the stream
/// or is gone.
pub(super) async fn next_chunk<B: MessageBody>(
    mut body: Pin<&mut B>,
    stream: &mut SendStream<Bytes>,
) -> Option<Result<Bytes, B::Error>> {
    poll_fn(|cx| match body.as_mut().poll_next(cx) {
        Poll::Pending => stream.poll_reset(cx).map(|_| None),
        ready => ready,
    })
    .await
}
