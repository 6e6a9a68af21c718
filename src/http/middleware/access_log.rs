//! One log line a request, and its `X-Request-Id`; and whatever else every request passes.
//!
//! What handlers learn about a request (which app, which session) they leave on it as [`Noted`].
//! The query never gets here: it holds access tokens. Nor does all of every path: who forgets the
//! question mark has the token in there.

use std::rc::Rc;
use std::sync::Arc;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{CONNECTION, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _};
use tokio::time::Instant;
use uuid::Uuid;

use super::header_limits;
use super::request_context::{Answered, Noted, Outcome};
use super::request_guard::Holds;
use super::request_metrics::Measure;
use super::request_span::Traced;
use crate::domain::AppId;
use crate::http::auth::authenticate::Gate;
use crate::http::options::Options;
use crate::http::services::Services;
use crate::http::transport::Drain;
use crate::telemetry::{Trace, Traces};
use crate::wire::ApiKey;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longer ids of callers are replaced. Access tokens are longer, what is in use as an id is not.
const LONGEST_ID: usize = 64;
/// An answer waits for so many turns of its thread: in the first, whatever else has come by now is
/// answered, in the second what came meanwhile. So the answers of many go out one close after the
/// other, and whoever awaits several of them is woken once, not for each. Where nothing else is to
/// be done, a turn is a look at the sockets.
const TURNS: usize = 2;

/// The middleware of all requests. Belongs to one thread.
pub(crate) struct RequestLog {
    options: Options,
    drain: Arc<Drain>,
    gate: Arc<Gate>,
    traces: Traces,
    measure: Measure,
}

impl RequestLog {
    pub(crate) fn new(services: &Services, options: Options, drain: Arc<Drain>) -> Self {
        let Services { gate, traces, metrics, .. } = services.clone();
        Self { options, drain, gate, traces, measure: Measure::new(metrics) }
    }

    /// Has a request answered, and tells of it.
    pub(crate) async fn pass(
        self: Rc<Self>,
        mut request: ServiceRequest,
        next: Next<impl MessageBody + 'static>,
    ) -> Result<ServiceResponse<impl MessageBody>, Error> {
        let running = self.drain.enter();
        let holds = Holds::of(&mut request);
        let noted = Noted::new(request_id(&request), self.gate.meet(&request));
        request.extensions_mut().insert(noted.clone());
        let traced = Traced::begin(&self.traces, &request);

        let mut response = match header_limits::refusal(&self.options, &request) {
            Some(refused) => request.into_response(refused).map_into_right_body(),
            None => {
                let answering = Trace::scope(traced.trace().cloned(), next.call(request));
                answering.await?.map_into_left_body()
            }
        };
        if self.drain.stopping() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let outcome = response.response_mut().extensions_mut().remove::<Outcome>();
        let answered = noted.answered(outcome.as_ref());
        let cause = outcome.as_ref().and_then(|outcome| outcome.cause.as_deref());
        let now = Instant::now();
        self.measure.count(&response, now - noted.read_at().unwrap_or(noted.began()), answered);
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    method = response.request().method().as_str(),
                    path = shown(response.request().path()),
                    status = response.status().as_u16(),
                    errcode = answered.and_then(Answered::errcode),
                    code = answered.and_then(Answered::code),
                    duration_ms = (now - noted.began()).as_micros() as f64 / 1_000.0,
                    app_id = noted.app_id().map(AppId::as_str),
                    peer = %noted.peer().0,
                    session_id = noted.session_id().map(tracing::field::display),
                    request_id = noted.id_as_text(),
                    trace_id = traced.trace().map(|trace| tracing::field::display(trace.id())),
                    cause,
                    "request"
                )
            };
        }
        // A level is part of a line's place in the source.
        if cause.is_some() {
            line!(error);
        } else {
            line!(info);
        }
        traced.end(&response, &noted, answered, cause.is_some());
        response.headers_mut().insert(REQUEST_ID, noted.id().clone());
        drop(running);
        // A refusal goes out at once: behind a body that is broken there is no later.
        let turns = if outcome.is_none() { TURNS } else { 0 };
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        Ok(holds.until_sent(response))
    }
}

/// The caller's id if it is a reasonable one and cannot be a secret of ours, else a new one.
fn request_id(request: &ServiceRequest) -> HeaderValue {
    let is_reasonable = |id: &&HeaderValue| {
        (1..=LONGEST_ID).contains(&id.len())
            && id.to_str().is_ok_and(|id| {
                let plain = |c: char| c.is_ascii_alphanumeric() || "._:/+=@-".contains(c);
                id.chars().all(plain) && !id.contains(ApiKey::PREFIX)
            })
    };
    let given = request.headers().get(REQUEST_ID).filter(is_reasonable);
    given.cloned().unwrap_or_else(|| {
        let mut digits = [0; 32];
        let id = Uuid::from_u128(rand::random()).simple().encode_lower(&mut digits);
        HeaderValue::from_str(id).unwrap_or_else(|_| HeaderValue::from_static("-"))
    })
}

/// As much of a path as can be neither a secret nor anything but a path; "…" stands for the rest.
fn shown(path: &str) -> String {
    const BRACES: [&str; 4] = ["%7B", "%7b", "%7D", "%7d"];
    /// Access tokens are longer; what stands in real paths is not.
    const LONGEST_PART: usize = 64;
    let mut end = 0;
    let mut part = 0;
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
            part = end;
        } else if end - part > LONGEST_PART {
            end = part;
            break;
        }
    }
    let more = if end < path.len() { "…" } else { "" };
    format!("{}{more}", &path[..end])
}

#[cfg(test)]
mod tests {
    #[test]
    fn paths_are_shown_as_far_as_they_are_paths() {
        let long = "x".repeat(65);
        for (path, shown) in [
            ("/", "/"),
            ("/cgi/session/get", "/cgi/session/get"),
            ("/v1/sessions/%7B8AD595F3-73B3%7d/events", "/v1/sessions/%7B8AD595F3-73B3%7d/events"),
            ("/cgi/session/get&accessToken=abc", "/cgi/session/get…"),
            ("/cgi/session/get%3FaccessToken", "/cgi/session/get…"),
            ("/cgi/msk_abc/more", "/cgi/…"),
            ("/a\u{1b}[31m", "/a…"),
            ("/项目", "/…"),
            (&format!("/cgi/{long}/more"), "/cgi/…"),
            (&format!("/cgi/{}", &long[1..]), &format!("/cgi/{}", &long[1..])),
        ] {
            assert_eq!(super::shown(path), shown);
        }
    }
}
