//! One line in the log for each request.
//!
//! The line holds data of the [`request_context`](super::request_context) and of the response. The
//! query is never written, because it holds access tokens. A path may be written only in part: a
//! caller that forgets the question mark puts the token into the path, and the path of a member ends
//! with its account.

use actix_web::body::MessageBody;
use actix_web::dev::ServiceResponse;

use super::request_context::{ApiStatus, RequestContext, RequestResult};
use crate::domain::AppId;
use crate::telemetry::Trace;
use crate::wire::ApiKey;

/// Writes the line. Its level is error if the service itself failed. A request that was refused
/// because the database cannot be reached or is busy has the usual level: an outage has lines of its own, and
/// many requests.
pub(crate) fn write(
    response: &ServiceResponse<impl MessageBody>,
    context: &RequestContext,
    result: &RequestResult,
    trace: Option<&Trace>,
) {
    let (api_status, cause, reason) = (result.api_status(), result.cause(), result.reason());
    macro_rules! log_request {
        ($level:ident) => {
            tracing::$level!(
                method = response.request().method().as_str(),
                path = redact_path(response.request().path()),
                status = response.status().as_u16(),
                errcode = api_status.and_then(ApiStatus::errcode),
                code = api_status.and_then(ApiStatus::code),
                duration_ms = result.duration().as_micros() as f64 / 1_000.0,
                app_id = context.app_id().map(AppId::as_str),
                client_address = %context.client_ip().0,
                session_id = context.session_id().map(tracing::field::display),
                request_id = context.request_id_str(),
                trace_id = trace.map(|trace| tracing::field::display(trace.id())),
                cause,
                reason,
                "request"
            )
        };
    }
    // `tracing` needs the level at compile time.
    if result.is_failure() {
        log_request!(error);
    } else {
        log_request!(info);
    }
}

/// The beginning of a path, up to the first part that may be a secret or an account, or is unusual;
/// "…" stands for the rest.
fn redact_path(path: &str) -> String {
    const BRACES: [&str; 4] = ["%7B", "%7b", "%7D", "%7d"];
    /// Access tokens are longer; the segments of real paths are not.
    const MAX_SEGMENT: usize = 64;
    /// An account follows this segment.
    const MEMBERS: &str = "members/";
    let mut end = 0;
    let mut segment = 0;
    while let Some(next) = path[end..].chars().next() {
        let rest = &path[end..];
        let is_plain = next.is_ascii_alphanumeric() || "/._~-".contains(next);
        end += match next {
            _ if rest.starts_with(ApiKey::PREFIX) => break,
            '%' if BRACES.iter().any(|brace| rest.starts_with(brace)) => 3,
            _ if is_plain => 1,
            _ => break,
        };
        if next == '/' {
            if &path[segment..end] == MEMBERS {
                break;
            }
            segment = end;
        } else if end - segment > MAX_SEGMENT {
            end = segment;
            break;
        }
    }
    let more = if end < path.len() { "…" } else { "" };
    format!("{}{more}", &path[..end])
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use actix_web::HttpResponse;
    use actix_web::http::StatusCode;
    use actix_web::test::TestRequest;

    use super::super::request_context::ErrorReport;
    use super::*;

    #[derive(Clone, Default)]
    struct LogBuffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for LogBuffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The line of a request that failed with `cause`, or succeeded.
    fn line(cause: Option<&str>) -> String {
        line_of_report(StatusCode::OK, false, cause)
    }

    fn line_of_report(status: StatusCode, is_refusal: bool, cause: Option<&str>) -> String {
        let buffer = LogBuffer::default();
        let writer = buffer.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            let request = TestRequest::with_uri("/cgi/msk_abc?accessToken=abc").to_srv_request();
            let context = RequestContext::for_tests("the-id");
            let mut response = request.into_response(HttpResponse::build(status));
            let status = ApiStatus::Errcode(7);
            let cause = cause.map(str::to_owned);
            let report = ErrorReport { status, is_refusal, cause, reason: None };
            response.response_mut().extensions_mut().insert(report);
            let result = RequestResult::from_response(&mut response, &context);
            write(&response, &context, &result, None);
        });
        String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_line_describes_the_request_without_secrets() {
        let line = line(None);
        for part in ["INFO", "GET", "/cgi/…", "status=200", "errcode=7", "request_id=\"the-id\""]
        {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert!(!line.contains("abc"), "{line}");
    }

    #[test]
    fn a_failure_of_the_service_is_an_error_with_its_cause() {
        let line = line(Some("disk full"));
        assert!(line.contains("ERROR") && line.contains("disk full"), "{line}");
    }

    #[test]
    fn refused_request_has_the_usual_level() {
        // The status of a batch is 200, even if its items are refused.
        for status in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::OK] {
            let line = line_of_report(status, true, Some("disk full"));
            assert!(line.contains("INFO") && line.contains("disk full"), "{line}");
        }
    }

    #[test]
    fn logged_path_ends_before_suspicious_characters() {
        let long = "x".repeat(65);
        for (path, expected) in [
            ("/", "/"),
            ("/cgi/session/get", "/cgi/session/get"),
            ("/v1/sessions/%7B8AD595F3-73B3%7d/events", "/v1/sessions/%7B8AD595F3-73B3%7d/events"),
            ("/cgi/session/get&accessToken=abc", "/cgi/session/get…"),
            ("/cgi/session/get%3FaccessToken", "/cgi/session/get…"),
            ("/cgi/msk_abc/more", "/cgi/…"),
            ("/v1/sessions/1/members", "/v1/sessions/1/members"),
            ("/v1/sessions/1/members/alice", "/v1/sessions/1/members/…"),
            ("/v1/nothing/members/alice/", "/v1/nothing/members/…"),
            ("/a\u{1b}[31m", "/a…"),
            ("/项目", "/…"),
            (&format!("/cgi/{long}/more"), "/cgi/…"),
            (&format!("/cgi/{}", &long[1..]), &format!("/cgi/{}", &long[1..])),
        ] {
            assert_eq!(redact_path(path), expected);
        }
    }
}
