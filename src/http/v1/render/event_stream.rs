//! The form of a stream of events: `text/event-stream`, from the HTML standard.

use actix_web::http::header::{ACCEPT, CACHE_CONTROL, HeaderName};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use futures_util::{Stream, StreamExt as _};

/// The media type.
pub(crate) const MEDIA_TYPE: &str = "text/event-stream";

/// Tells nginx to pass each part on at once.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Whether a request prefers a stream to a page. The order decides between equal weights.
pub(crate) fn is_requested(request: &HttpRequest) -> bool {
    let headers = request.headers().get_all(ACCEPT).filter_map(|value| value.to_str().ok());
    let mut best: Option<(f32, bool)> = None;
    for range in headers.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let is_stream = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
            MEDIA_TYPE => true,
            "application/json" | "application/*" | "*/*" => false,
            _ => continue,
        };
        let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Ok(1.0), str::parse);
        let weight: f32 = weight.unwrap_or(1.0);
        if weight > 0.0 && best.is_none_or(|(best, _)| weight > best) {
            best = Some((weight, is_stream));
        }
    }
    best.is_some_and(|(_, is_stream)| is_stream)
}

/// The response whose parts are these. A request with `HEAD` gets only the headers.
pub(crate) fn respond(parts: Option<impl Stream<Item = Vec<u8>> + 'static>) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response
        .content_type(MEDIA_TYPE)
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((X_ACCEL_BUFFERING, "no"));
    match parts {
        Some(parts) => response
            .streaming(parts.map(|part| Ok::<_, std::convert::Infallible>(Bytes::from(part)))),
        None => response.finish(),
    }
}

/// Writes an event. `data` is one line.
pub(crate) fn write_event(
    out: &mut Vec<u8>,
    id: &str,
    name: &str,
    write_data: impl FnOnce(&mut Vec<u8>),
) {
    for part in ["id: ", id, "\nevent: ", name, "\ndata: "] {
        out.extend_from_slice(part.as_bytes());
    }
    write_data(out);
    out.extend_from_slice(b"\n\n");
}

/// Writes a comment, which clients skip.
pub(crate) fn write_comment(out: &mut Vec<u8>, text: &str) {
    for part in [": ", text, "\n\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_stream_is_sent_only_to_a_client_that_prefers_it() {
        for (accept, expected) in [
            ("text/event-stream", true),
            ("Text/Event-Stream; q=0.5", true),
            ("text/event-stream, application/json", true),
            ("text/html, text/event-stream;q=0.9, */*;q=0.8", true),
            ("application/json, text/event-stream", false),
            ("text/event-stream;q=0.5, application/json", false),
            ("text/event-stream;q=0", false),
            ("*/*", false),
            ("text/*", false),
            ("", false),
        ] {
            let request = TestRequest::default().insert_header((ACCEPT, accept));
            assert_eq!(is_requested(&request.to_http_request()), expected, "{accept}");
        }
        assert!(!is_requested(&TestRequest::default().to_http_request()));
    }

    #[test]
    fn events_and_comments_have_the_form_of_the_standard() {
        let mut out = Vec::new();
        write_comment(&mut out, "heartbeat");
        write_event(&mut out, "c1", "change", |out| out.extend_from_slice(b"{}"));
        assert_eq!(out, b": heartbeat\n\nid: c1\nevent: change\ndata: {}\n\n");
    }
}
