//! Ends the wait for a response that takes too long, or whose client is gone.
//!
//! The service enforces `server.request_timeout` itself, and reports the outcome. This module
//! covers the cases that the service cannot see: a silent database, a stuck connection, a client
//! that is gone. The work is dropped then. Work that has not started never starts. Work that has
//! started is finished by the task that runs it, or rolled back by PostgreSQL.

use std::future::pending;
use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, ResponseError, web};
use tokio::time::Instant;

use super::request_context::RequestContext;
use crate::http::options::Options;
use crate::http::transport::client_disconnected;

/// The status of a request whose client closed the connection. No standard defines one; nginx uses
/// this.
pub(crate) const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Why a request has no response. The outcome is unknown, unless the request only reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoResponse {
    /// The request took too long.
    #[error("no response within {}; {}", humantime::format_duration(*.timeout), retry_advice(*.reads))]
    TimedOut { timeout: Duration, reads: bool },
    /// The client closed the connection. The text is for the log; the client hardly reads it.
    #[error("the client closed the connection before the response; {}", retry_advice(*.reads))]
    ClientClosed { reads: bool },
    /// The clients of the enterprise have too many responses that they have not read. Nothing was
    /// changed.
    #[error("the clients of the enterprise have too many unread responses, try again")]
    TooManyUnread,
}

fn retry_advice(reads: bool) -> &'static str {
    if reads { "try again" } else { "the outcome is unknown" }
}

/// The response to a request, or an error `E` if the response is late or the client is gone.
pub(crate) async fn with_deadline<E>(
    request: &HttpRequest,
    pending_response: impl Future<Output = HttpResponse>,
) -> HttpResponse
where
    E: ResponseError + From<NoResponse> + 'static,
{
    let reads = request.method().is_safe();
    let no_response = tokio::select! {
        biased;
        response = pending_response => return response,
        () = client_disconnected(request) => NoResponse::ClientClosed { reads },
        timeout = deadline_elapsed(request) => NoResponse::TimedOut { timeout, reads },
    };
    HttpResponse::from_error(E::from(no_response))
}

/// Waits for the request timeout, which starts when the request has been read. Returns the timeout.
async fn deadline_elapsed(request: &HttpRequest) -> Duration {
    let Some(options) = request.app_data::<web::Data<Options>>() else { return pending().await };
    let timeout = options.request_timeout;
    let mut wake_at = Instant::now() + timeout;
    loop {
        tokio::time::sleep_until(wake_at).await;
        let now = Instant::now();
        let read_at = RequestContext::from_request(request).and_then(|context| context.read_at());
        // A request that is still being read has at least the whole timeout left.
        let deadline = read_at.map_or(now + timeout, |read_at| read_at + timeout);
        if deadline <= now {
            return timeout;
        }
        wake_at = deadline;
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use actix_web::HttpMessage as _;
    use actix_web::http::StatusCode;
    use actix_web::test::TestRequest;

    use super::*;
    use crate::http::transport::StreamState;

    const SECOND: Duration = Duration::from_secs(1);
    const TIMEOUT: Duration = Duration::from_secs(10);

    #[derive(Debug, thiserror::Error)]
    #[error(transparent)]
    struct TestError(#[from] NoResponse);

    impl ResponseError for TestError {
        fn status_code(&self) -> StatusCode {
            StatusCode::GATEWAY_TIMEOUT
        }
    }

    fn options() -> Options {
        Options {
            workers: 1,
            max_body_bytes: 0,
            max_body_bytes_in_flight: 0,
            max_uri_bytes: 0,
            max_header_bytes: 0,
            max_headers: 0,
            max_connections: 1,
            max_connections_per_address: 0,
            header_timeout: SECOND,
            body_timeout: SECOND,
            write_timeout: SECOND,
            keep_alive_timeout: SECOND,
            request_timeout: TIMEOUT,
            shutdown_timeout: SECOND,
            hsts_max_age: None,
        }
    }

    /// A request with a context, in an application with these [`options`].
    fn request(request: TestRequest) -> HttpRequest {
        let request = request.app_data(web::Data::new(options())).to_http_request();
        request.extensions_mut().insert(RequestContext::for_tests("id"));
        request
    }

    fn mark_read(request: &HttpRequest) {
        RequestContext::with(request, |context| context.mark_read(Instant::now()));
    }

    /// Answers `request` with the response of `work`. Returns the error, if the response is one,
    /// and the time until the response.
    async fn answer(
        request: &HttpRequest,
        work: impl Future<Output = HttpResponse>,
    ) -> (Option<NoResponse>, Duration) {
        let started_at = Instant::now();
        let response = with_deadline::<TestError>(request, work).await;
        let error = response.error().map(|error| error.as_error::<TestError>().unwrap().0);
        assert_eq!(error.is_none(), response.status() == StatusCode::OK, "{response:?}");
        (error, started_at.elapsed())
    }

    async fn respond_after(wait: Duration) -> HttpResponse {
        tokio::time::sleep(wait).await;
        HttpResponse::Ok().finish()
    }

    #[tokio::test(start_paused = true)]
    async fn response_within_the_timeout_is_returned() {
        let request = request(TestRequest::get());
        mark_read(&request);
        for wait in [SECOND, 9 * SECOND] {
            assert_eq!(answer(&request, respond_after(wait)).await, (None, wait));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn response_at_the_deadline_is_returned() {
        let request = request(TestRequest::get());
        mark_read(&request);
        assert_eq!(answer(&request, respond_after(TIMEOUT)).await, (None, TIMEOUT));
    }

    #[tokio::test(start_paused = true)]
    async fn timeout_starts_when_the_request_has_been_read() {
        let request = request(TestRequest::get());
        let working = Rc::new(());
        let reference = Rc::downgrade(&working);
        let work = async {
            let _working = working;
            tokio::time::sleep(3 * SECOND).await;
            mark_read(&request);
            pending().await
        };
        let timed_out = NoResponse::TimedOut { timeout: TIMEOUT, reads: true };
        assert_eq!(answer(&request, work).await, (Some(timed_out), 13 * SECOND));
        assert!(reference.upgrade().is_none(), "the work is dropped");
    }

    #[tokio::test(start_paused = true)]
    async fn request_that_is_still_being_read_does_not_time_out() {
        let request = request(TestRequest::post());
        let wait = 5 * TIMEOUT;
        assert_eq!(answer(&request, respond_after(wait)).await, (None, wait));
    }

    #[tokio::test(start_paused = true)]
    async fn request_without_options_does_not_time_out() {
        let request = TestRequest::get().to_http_request();
        let wait = 100 * TIMEOUT;
        assert_eq!(answer(&request, respond_after(wait)).await, (None, wait));
    }

    #[tokio::test(start_paused = true)]
    async fn disconnected_client_ends_the_work() {
        let request = request(TestRequest::post());
        mark_read(&request);
        let stream = StreamState::for_tests();
        request.extensions_mut().insert(stream.clone());
        let disconnect = async {
            tokio::time::sleep(2 * SECOND).await;
            stream.disconnect.signal();
        };
        let (answered, ()) = tokio::join!(answer(&request, pending()), disconnect);
        let closed = NoResponse::ClientClosed { reads: false };
        assert_eq!(answered, (Some(closed), 2 * SECOND));
        // The client is gone already when the next work begins.
        assert_eq!(answer(&request, pending()).await, (Some(closed), Duration::ZERO));
        let ready = std::future::ready(HttpResponse::Ok().finish());
        assert_eq!(answer(&request, ready).await, (None, Duration::ZERO));
    }

    #[test]
    fn error_text_says_whether_the_outcome_is_known() {
        for (error, text) in [
            (
                NoResponse::TimedOut { timeout: TIMEOUT, reads: true },
                "no response within 10s; try again",
            ),
            (
                NoResponse::TimedOut { timeout: TIMEOUT, reads: false },
                "no response within 10s; the outcome is unknown",
            ),
            (
                NoResponse::ClientClosed { reads: false },
                "the client closed the connection before the response; the outcome is unknown",
            ),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }
}
