//! Bodies with a JSON object in each line (NDJSON), read part by part. A body is never held whole: only
//! the bytes that have arrived and the objects of one part.

use actix_web::web::{Bytes, BytesMut};
use actix_web::{HttpRequest, dev};
use futures_util::StreamExt as _;
use memchr::memchr;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::json;
use crate::http::body::{self, BodyError};
use crate::http::middleware::request_context::RequestContext;
use crate::http::v1::problem::{Code, Problem};

/// The media type of such a body.
pub(crate) const MEDIA_TYPE: &str = "application/x-ndjson";

/// The maximum number of lines of a body.
pub(crate) const MAX_LINES: u64 = 10_000_000;
/// The maximum length of a line, with its end.
pub(crate) const MAX_LINE_BYTES: usize = 1_024;

/// The first bytes of UTF-8 text from some editors and libraries.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A body that is being read.
pub(crate) struct NdjsonBody {
    request: HttpRequest,
    payload: dev::Payload,
    /// Bytes that were received and belong to no line yet.
    received: BytesMut,
    /// The number of lines that were read.
    lines: u64,
    is_received: bool,
}

impl NdjsonBody {
    /// The body of `request`.
    ///
    /// # Errors
    /// If the body has another media type, or is compressed.
    pub(super) fn new(request: HttpRequest, payload: dev::Payload) -> Result<Self, Problem> {
        json::check_media_type(&request, MEDIA_TYPE, |_, kind, subtype| {
            kind == "application" && ["x-ndjson", "ndjson", "jsonl"].contains(&subtype)
        })?;
        let (received, lines, is_received) = (BytesMut::new(), 0, false);
        let body = Self { request, payload, received, lines, is_received };
        body.mark_reading();
        Ok(body)
    }

    /// Records that the body is still being read, if it is: the request timeout starts at its end.
    pub(super) fn mark_reading(&self) {
        if !self.is_received {
            RequestContext::with(&self.request, RequestContext::mark_reading);
        }
    }

    /// The request.
    pub(crate) fn request(&self) -> &HttpRequest {
        &self.request
    }

    /// Reads the next objects, at most `max` of them. The list is empty at the end of the body. The objects
    /// must arrive within the timeout of a body, and `convert` must accept each of them. Blank lines are
    /// skipped.
    ///
    /// # Errors
    /// If the body or a line must be refused. The problem names the line.
    pub(crate) async fn read<T: DeserializeOwned, U>(
        &mut self,
        max: usize,
        convert: impl FnMut(T) -> Result<U, Problem>,
    ) -> Result<Vec<U>, Problem> {
        let request = self.request.clone();
        body::within_timeout(&request, |_| self.read_objects(max, convert)).await
    }

    async fn read_objects<T: DeserializeOwned, U>(
        &mut self,
        max: usize,
        mut convert: impl FnMut(T) -> Result<U, Problem>,
    ) -> Result<Vec<U>, Problem> {
        let mut objects = Vec::new();
        while objects.len() < max
            && let Some(line) = self.next_line().await?
        {
            let text = match self.lines {
                1 => line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&line),
                _ => &line,
            };
            if text.trim_ascii().is_empty() {
                continue;
            }
            let object = json::read(text).and_then(&mut convert);
            objects.push(object.map_err(|problem| problem.at_line(self.lines))?);
        }
        Ok(objects)
    }

    /// The next line; `None` at the end of the body.
    async fn next_line(&mut self) -> Result<Option<Bytes>, Problem> {
        let mut searched = 0;
        loop {
            if let Some(end) = memchr(b'\n', &self.received[searched..]) {
                let line = self.received.split_to(searched + end + 1);
                return self.counted(line).map(Some);
            }
            searched = self.received.len();
            if searched > MAX_LINE_BYTES {
                let line = self.received.split();
                return self.counted(line).map(Some);
            }
            match self.payload.next().await {
                _ if self.is_received => return Ok(None),
                Some(chunk) => {
                    let chunk = chunk.map_err(|_| BodyError::Incomplete)?;
                    self.received.extend_from_slice(&chunk);
                }
                None => {
                    self.is_received = true;
                    let now = Instant::now();
                    RequestContext::with(&self.request, |context| context.mark_read(now));
                    if !self.received.is_empty() {
                        let line = self.received.split();
                        return self.counted(line).map(Some);
                    }
                }
            }
        }
    }

    /// A line, or the beginning of one that is too long.
    fn counted(&mut self, line: BytesMut) -> Result<Bytes, Problem> {
        self.lines += 1;
        let too_large = |reason: String| Problem::for_field(Code::BodyTooLarge, "body", reason);
        if line.len() > MAX_LINE_BYTES {
            let problem = too_large(format!("at most {MAX_LINE_BYTES} bytes in a line, got more"));
            return Err(problem.with_max(MAX_LINE_BYTES).at_line(self.lines));
        }
        if self.lines > MAX_LINES {
            let problem = too_large(format!("at most {MAX_LINES} lines, got more"));
            return Err(problem.with_max(MAX_LINES));
        }
        Ok(line.freeze())
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use actix_web::error::PayloadError;
    use actix_web::test::TestRequest;
    use actix_web::web;
    use futures_util::{Stream, stream};
    use serde::Deserialize;

    use super::*;
    use crate::http::options::Options;

    type BoxedPayload = Pin<Box<dyn Stream<Item = Result<Bytes, PayloadError>>>>;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Line {
        n: u32,
    }

    /// A body that arrives in these chunks.
    fn body(chunks: &[&[u8]]) -> NdjsonBody {
        let request = TestRequest::post().app_data(web::Data::new(Options::for_tests()));
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let payload: BoxedPayload = Box::pin(stream::iter(chunks));
        let payload = dev::Payload::Stream { payload };
        NdjsonBody::new(request.to_http_request(), payload).unwrap()
    }

    /// The numbers of all lines, read in parts of `max`.
    async fn read_all(body: &mut NdjsonBody, max: usize) -> Result<Vec<u32>, String> {
        let mut all = Vec::new();
        loop {
            let part = body.read(max, |line: Line| Ok(line.n)).await;
            let part = part.map_err(|problem| problem.to_string())?;
            assert!(part.len() <= max);
            if part.is_empty() {
                return Ok(all);
            }
            all.extend(part);
        }
    }

    #[tokio::test]
    async fn lines_are_read_however_they_arrive() {
        let text = b"\xef\xbb\xbf{\"n\":1}\n\n  \r\n{\"n\":2}\r\n{ \"n\" : 3 }\n{\"n\":4}";
        for size in 1..=text.len() {
            let chunks: Vec<&[u8]> = text.chunks(size).collect();
            for max in [1, 3, 100] {
                assert_eq!(read_all(&mut body(&chunks), max).await.unwrap(), [1, 2, 3, 4]);
            }
        }
        assert_eq!(read_all(&mut body(&[]), 5).await.unwrap(), [0; 0]);
        assert_eq!(read_all(&mut body(&[b"\n"]), 5).await.unwrap(), [0; 0]);
    }

    #[tokio::test]
    async fn problem_names_the_line() {
        let long = format!("{{\"n\":1}}\n{{\"n\":{}1}}\n", " ".repeat(MAX_LINE_BYTES));
        let endless = "x".repeat(10 * MAX_LINE_BYTES);
        for (text, problem) in [
            ("{\"n\":1}\n{\"n\":\"a\"}", "invalid_field line 2: n: must be "),
            ("\n\n{\"m\":1}\n", "unknown_field line 3: m: is unknown"),
            ("{}", "missing_field line 1: n: is missing"),
            ("{\"n\":1}{\"n\":2}", "malformed_body line 1: body: trailing characters"),
            ("[1]", "malformed_body line 1: body: must be a JSON object, got a list"),
            ("{\"n\":1}\n{\"n\":", "malformed_body line 2: body: EOF while parsing"),
            (&long, "body_too_large line 2: body: at most 1024 bytes in a line, got more"),
            (&endless, "body_too_large line 1: body: at most 1024 bytes in a line, got more"),
        ] {
            let found = read_all(&mut body(&[text.as_bytes()]), 1).await.unwrap_err();
            assert!(found.starts_with(problem), "{text}: {found}");
        }
    }

    #[tokio::test]
    async fn number_of_lines_is_bounded() {
        let mut body = body(&[b"{\"n\":1}\n{\"n\":2}\n"]);
        body.lines = MAX_LINES - 1;
        let problem = read_all(&mut body, 5).await.unwrap_err();
        assert_eq!(problem, "body_too_large body: at most 10000000 lines, got more");
    }
}
