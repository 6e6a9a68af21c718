//! A response with a JSON object in each line (NDJSON), made while it is sent.
//!
//! The work runs in a task of its own, because the framework asks for a response only while its client
//! reads. Many clients read nothing before they have sent their whole request, so the work goes on, up to
//! [`MAX_UNREAD_BYTES`] ahead of the client.
//!
//! The surprise: the status is sent with the first part of the response, as late as possible. An error
//! before that is an ordinary problem. A later one is the last line.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::web::{BufMut as _, Bytes, BytesMut};
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::Stream;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::http::middleware::request_context::RequestContext;
use crate::http::middleware::response_budget::{self, UnreadResponse};
use crate::http::shared::error_text;
use crate::http::transport::GracefulShutdown;
use crate::http::v1::problem::{Code, Problem};

/// The maximum size of the lines that the client of a response has not read.
const MAX_UNREAD_BYTES: usize = 1024 * 1024;
/// The size of the parts in which lines are handed over.
const PART_BYTES: usize = 64 * 1024;

/// The lines of a response.
pub(crate) struct LineWriter {
    /// Lines that are not handed over yet.
    lines: BytesMut,
    parts: mpsc::Sender<Result<Bytes, Problem>>,
    /// Whether the status was sent.
    headers_sent: bool,
}

impl LineWriter {
    /// Adds a line. Waits while the client has too much to read.
    ///
    /// # Errors
    /// If the value has no JSON form.
    pub(crate) async fn write(&mut self, value: &impl Serialize) -> Result<(), Problem> {
        serde_json::to_writer((&mut self.lines).writer(), value)
            .map_err(|error| Problem::internal(&error))?;
        self.lines.put_u8(b'\n');
        if self.lines.len() >= PART_BYTES {
            self.hand_over().await;
        }
        Ok(())
    }

    async fn hand_over(&mut self) {
        let part = self.lines.split().freeze();
        self.headers_sent = true;
        // The task of a client that is gone is about to be aborted.
        let _ = self.parts.send(Ok(part)).await;
    }

    /// Ends the response: with the lines that remain, or with a problem.
    async fn finish(mut self, result: Result<(), Problem>, request: &HttpRequest) {
        if let Err(problem) = result {
            if !self.headers_sent {
                let _ = self.parts.send(Err(problem)).await;
                return;
            }
            let context = RequestContext::from_request(request);
            let id = context.as_ref().map(|context| context.request_id_str());
            let body = problem.body(id);
            tracing::warn!(request_id = id, %problem, "a response ended with a problem");
            if self.write(&body).await.is_err() {
                return;
            }
        }
        self.hand_over().await;
    }
}

/// The body of a response.
struct LineStream {
    first: Option<Bytes>,
    rest: mpsc::Receiver<Result<Bytes, Problem>>,
    /// Ends with the response, or when its client is gone.
    _task: JoinSet<()>,
    _unread: Option<UnreadResponse>,
}

impl Stream for LineStream {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            // A problem after the first part is a line.
            None => self.rest.poll_recv(cx).map(|part| part?.ok().map(Ok)),
        }
    }
}

/// The response whose lines `produce` writes. A stop of the server ends the work.
///
/// # Errors
/// If the work fails before the first part of the response is full.
pub(crate) async fn respond(
    request: &HttpRequest,
    media_type: &str,
    produce: impl AsyncFnOnce(&mut LineWriter) -> Result<(), Problem> + 'static,
) -> Result<HttpResponse, Problem> {
    let unread = response_budget::reserve(request, MAX_UNREAD_BYTES)?;
    let (sender, mut parts) = mpsc::channel(MAX_UNREAD_BYTES / PART_BYTES);
    let mut task = JoinSet::new();
    let request = request.clone();
    task.spawn_local(async move {
        let mut writer =
            LineWriter { lines: BytesMut::new(), parts: sender, headers_sent: false };
        let result = tokio::select! {
            result = produce(&mut writer) => result,
            () = stopping(&request) => Err(Problem::new(Code::Unavailable, error_text::UNAVAILABLE)),
        };
        writer.finish(result, &request).await;
    });
    let first = parts.recv().await.transpose()?;
    let lines = LineStream { first, rest: parts, _task: task, _unread: unread };
    Ok(HttpResponse::Ok().content_type(media_type).streaming(lines))
}

/// Waits until the server closes its connections.
async fn stopping(request: &HttpRequest) {
    match request.app_data::<web::Data<GracefulShutdown>>() {
        Some(shutdown) => shutdown.wait_closing().await,
        None => std::future::pending().await,
    }
}
