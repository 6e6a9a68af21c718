//! Runs the middlewares of a request in order. Each one has a file; only the order is here.
//!
//! Middlewares are functions, not layers of the framework: each layer would allocate a future for
//! every request. Reading a cached session takes only as long as a few of these allocations.

use std::rc::Rc;
use std::sync::Arc;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderValue;
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse, web};

use super::client_ip::ClientIpResolver;
use super::request_context::{RequestContext, RequestResult};
use super::request_guard::RequestGuard;
use super::request_metrics::RequestMetrics;
use super::request_span::RequestSpan;
use super::{access_log, header_limits, request_id, security_headers};
use crate::http::options::Options;
use crate::http::transport::{
    GracefulShutdown, SendAtOnce, announce_close, end_by_close, is_close_announced,
};
use crate::metrics::Metrics;
use crate::telemetry::{Trace, Traces};

/// The middlewares of the application, on one thread.
pub(crate) struct Pipeline {
    options: Options,
    shutdown: Arc<GracefulShutdown>,
    client_ips: ClientIpResolver,
    traces: Traces,
    metrics: RequestMetrics,
    /// The value of `Strict-Transport-Security`, if the header is sent.
    hsts: Option<HeaderValue>,
}

impl Pipeline {
    pub(crate) fn new(
        options: Options,
        shutdown: Arc<GracefulShutdown>,
        client_ips: ClientIpResolver,
        traces: Traces,
        metrics: Arc<Metrics>,
    ) -> Self {
        let metrics = RequestMetrics::new(metrics);
        let hsts = options.hsts_max_age.and_then(security_headers::hsts);
        Self { options, shutdown, client_ips, traces, metrics, hsts }
    }

    /// Answers a request, and reports on it.
    pub(crate) async fn handle(
        self: Rc<Self>,
        mut request: ServiceRequest,
        next: Next<impl MessageBody + 'static>,
    ) -> Result<ServiceResponse<impl MessageBody>, Error> {
        let guard = RequestGuard::new(&mut request);
        let id = request_id::choose(&request);
        let context = RequestContext::attach(&request, id, self.client_ips.resolve(&request));
        let span = RequestSpan::start(&self.traces, &request);

        let refused = header_limits::check(&self.options, &request).or_else(|| {
            // The client reads no further response, so nothing is done.
            is_close_announced(&request).then(|| HttpResponse::new(StatusCode::SERVICE_UNAVAILABLE))
        });
        let mut response = match refused {
            Some(refused) => request.into_response(refused).map_into_right_body(),
            None => {
                let answering = Trace::scope(span.trace().cloned(), next.call(request));
                answering.await?.map_into_left_body()
            }
        };

        if self.shutdown.is_draining() {
            announce_close(&mut response);
        }
        end_by_close(&mut response);
        let result = RequestResult::from_response(&mut response, &context);
        self.metrics.record(&response, &result);
        access_log::write(&response, &context, &result, span.trace());
        span.finish(&response, &context, &result);
        request_id::write(&mut response, &context);
        security_headers::write(&mut response, self.hsts.as_ref());
        if result.is_error() {
            response.response_mut().extensions_mut().insert(SendAtOnce);
        }
        Ok(guard.attach_to(response))
    }
}

/// The middlewares of an application without log lines, metrics and traces of its requests.
pub(crate) async fn handle_unreported(
    options: web::Data<Options>,
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let guard = RequestGuard::new(&mut request);
    let mut response = match header_limits::check(&options, &request) {
        Some(refused) => request.into_response(refused).map_into_right_body(),
        None => next.call(request).await?.map_into_left_body(),
    };
    security_headers::write(&mut response, None);
    Ok(guard.attach_to(response))
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read as _, Write as _};
    use std::net::TcpListener;
    use std::rc::Weak;
    use std::sync::{Mutex, mpsc};
    use std::task::Poll;
    use std::time::Duration;

    use actix_http::{Payload, Request};
    use actix_web::dev::Service as _;
    use actix_web::error::PayloadError;
    use actix_web::http::header::TRANSFER_ENCODING;
    use actix_web::middleware::from_fn;
    use actix_web::test::{TestRequest, init_service};
    use actix_web::web::Bytes;
    use actix_web::{App, HttpRequest};
    use futures_util::stream;

    use super::super::request_context::{ApiStatus, ErrorReport};
    use super::*;
    use crate::config::{OtlpEndpoint, TracingConfig};
    use crate::metrics::{self, Format, MetricsSnapshot};

    const CLIENT: &str = "203.0.113.7";
    const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
    const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const MAX_HEADERS: usize = 10;
    /// Long enough for a busy machine.
    const TIMEOUT: Duration = Duration::from_secs(60);

    /// A log that keeps its lines.
    #[derive(Clone, Default)]
    struct Log {
        lines: Arc<Mutex<Vec<String>>>,
    }

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let line = String::from_utf8_lossy(bytes).into_owned();
            self.lines.lock().unwrap().push(line);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The parts of a server that a pipeline writes to.
    struct Server {
        shutdown: Arc<GracefulShutdown>,
        metrics: Arc<Metrics>,
        traces: Traces,
        log: Log,
    }

    impl Server {
        fn new(traces: Traces) -> Self {
            let (shutdown, metrics) = (Arc::default(), Arc::default());
            Self { shutdown, metrics, traces, log: Log::default() }
        }

        /// The response of `handler` to a request, sent through a pipeline behind a trusted proxy.
        async fn call(
            &self,
            request: Request,
            handler: impl Fn(HttpRequest) -> HttpResponse + Clone + 'static,
        ) -> ServiceResponse<impl MessageBody> {
            let client_ips = ClientIpResolver::new(&["127.0.0.1/32".parse().unwrap()]);
            let (shutdown, traces) = (self.shutdown.clone(), self.traces.clone());
            let metrics = self.metrics.clone();
            let pipeline = Rc::new(Pipeline::new(options(), shutdown, client_ips, traces, metrics));
            let answer = move |request: HttpRequest| std::future::ready(handler(request));
            let app = App::new()
                .wrap(from_fn(move |request, next| pipeline.clone().handle(request, next)))
                .default_service(web::to(answer));
            let app = init_service(app).await;
            let log = self.log.clone();
            let subscriber = tracing_subscriber::fmt().with_ansi(false);
            let subscriber = subscriber.with_writer(move || log.clone()).finish();
            let _subscribed = tracing::subscriber::set_default(subscriber);
            app.call(request).await.unwrap()
        }

        /// Checks the log line of the only request.
        fn assert_logged(&self, parts: &[&str]) {
            let lines = self.log.lines.lock().unwrap();
            let [line] = lines.as_slice() else { panic!("{lines:?}") };
            for part in parts {
                assert!(line.contains(part), "{part}: {line}");
            }
        }

        /// Checks that a counter is 1. `parts` are its name and its labels.
        fn assert_counted(&self, parts: &[&str]) {
            let snapshot = MetricsSnapshot::default();
            let text = metrics::text(self.metrics.clone(), snapshot, Format::Prometheus).unwrap();
            let is_one =
                |line: &str| parts.iter().all(|part| line.contains(part)) && line.ends_with(" 1");
            assert!(text.lines().any(is_one), "{parts:?}: {text}");
        }
    }

    fn options() -> Options {
        Options {
            workers: 1,
            max_body_bytes: 1_000,
            max_body_bytes_in_flight: 2_000,
            max_uri_bytes: 1_000,
            max_header_bytes: 10_000,
            max_headers: MAX_HEADERS,
            max_connections: 1,
            max_connections_per_address: 0,
            header_timeout: TIMEOUT,
            body_timeout: TIMEOUT,
            write_timeout: TIMEOUT,
            keep_alive_timeout: TIMEOUT,
            request_timeout: TIMEOUT,
            shutdown_timeout: TIMEOUT,
            hsts_max_age: None,
        }
    }

    fn request() -> TestRequest {
        TestRequest::get()
            .uri("/thing")
            .peer_addr("127.0.0.1:9".parse().unwrap())
            .insert_header(("x-request-id", "the-id"))
            .insert_header(("x-forwarded-for", CLIENT))
            .insert_header(("traceparent", TRACEPARENT))
    }

    /// A request with this many headers more.
    fn with_headers(count: usize) -> TestRequest {
        (0..count)
            .fold(request(), |request, number| request.insert_header((format!("x-{number}"), "1")))
    }

    /// A request with a chunked body that never ends, and a reference that lives as long as the
    /// body.
    fn chunked(request: TestRequest) -> (Request, Weak<()>) {
        let owner = Rc::new(());
        let reference = Rc::downgrade(&owner);
        let body = stream::poll_fn(move |_| {
            let _owner = &owner;
            Poll::<Option<Result<Bytes, PayloadError>>>::Pending
        });
        let mut request = request.insert_header((TRANSFER_ENCODING, "chunked")).to_request();
        *request.payload() = Payload::Stream { payload: Box::pin(body) };
        (request, reference)
    }

    fn is_sent_at_once<B>(response: &ServiceResponse<B>) -> bool {
        response.response().extensions().contains::<SendAtOnce>()
    }

    #[tokio::test]
    async fn request_runs_in_its_context_until_it_is_reported() {
        let server = Server::new(Traces::default());
        let shutdown = server.shutdown.clone();
        let handler = move |request: HttpRequest| {
            let context = RequestContext::from_request(&request).unwrap();
            assert_eq!(context.request_id_str(), "the-id");
            assert_eq!(context.client_ip().0.to_string(), CLIENT);
            let trace = Trace::current().map(|trace| trace.traceparent());
            assert_eq!(trace.as_deref(), Some(TRACEPARENT));
            // A stop that begins meanwhile is announced in the response.
            shutdown.begin_drain();
            HttpResponse::Ok().finish()
        };
        let (request, body) = chunked(request());
        let response = server.call(request, handler).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers().get("x-request-id").unwrap(), "the-id");
        assert!(!response.response().head().keep_alive(), "the connection closes");
        assert!(!is_sent_at_once(&response));
        server.assert_logged(&["INFO", "status=200", "the-id", CLIENT, TRACE_ID]);
        server.assert_counted(&["http_requests_total", "route=\"other\"", "status=\"2xx\""]);
        assert!(body.upgrade().is_some(), "the body is held until the response is sent");
        drop(response);
        assert!(body.upgrade().is_none());
    }

    #[tokio::test]
    async fn too_large_header_section_reaches_no_handler_and_is_reported() {
        let server = Server::new(Traces::default());
        let (request, body) = chunked(with_headers(MAX_HEADERS));
        let handler = |_: HttpRequest| -> HttpResponse { panic!("the handler was called") };
        let response = server.call(request, handler).await;
        assert_eq!(response.status(), 431);
        assert_eq!(response.headers().get("x-request-id").unwrap(), "the-id");
        server.assert_logged(&["INFO", "status=431", "the-id", CLIENT, TRACE_ID]);
        server.assert_counted(&["http_requests_total", "route=\"other\"", "status=\"4xx\""]);
        assert!(body.upgrade().is_some(), "the body is held until the response is sent");
    }

    #[tokio::test]
    async fn error_is_reported_and_sent_at_once() {
        let server = Server::new(Traces::default());
        let handler = |_: HttpRequest| {
            let mut response = HttpResponse::InternalServerError().finish();
            let status = ApiStatus::Code("the_code");
            let cause = Some("disk full".to_owned());
            let report = ErrorReport { status, is_refusal: false, cause, reason: None };
            response.extensions_mut().insert(report);
            response
        };
        let response = server.call(request().to_request(), handler).await;
        assert_eq!(response.status(), 500);
        assert!(is_sent_at_once(&response));
        assert!(!response.response().extensions().contains::<ErrorReport>());
        server.assert_logged(&["ERROR", "status=500", "the-id", "the_code", "disk full"]);
        server.assert_counted(&["http_requests_total", "status=\"5xx\""]);
        server.assert_counted(&["muster_v1_problems_total", "code=\"the_code\""]);
    }

    #[tokio::test]
    async fn unreported_request_is_limited_and_its_body_is_held() {
        let app = App::new()
            .app_data(web::Data::new(options()))
            .wrap(from_fn(handle_unreported))
            .default_service(web::to(HttpResponse::Ok));
        let app = init_service(app).await;
        for (headers, status) in [(0, 200), (MAX_HEADERS, 431)] {
            let (request, body) = chunked(with_headers(headers));
            let response = app.call(request).await.unwrap();
            assert_eq!(response.status(), status);
            assert!(body.upgrade().is_some(), "the body is held until the response is sent");
            drop(response);
            assert!(body.upgrade().is_none());
        }
    }

    /// A collector that accepts one export. Returns its address and the received bytes.
    fn collector() -> (String, mpsc::Receiver<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut received = Vec::new();
            let mut chunk = [0; 4_096];
            while body_len(&received).is_none_or(|(received, expected)| received < expected) {
                let count = stream.read(&mut chunk).unwrap();
                received.extend_from_slice(&chunk[..count]);
                assert_ne!(count, 0, "the exporter closed the connection");
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            sender.send(received).unwrap();
        });
        (address, receiver)
    }

    /// The received and the expected length of the body, after the header section has been
    /// received.
    fn body_len(received: &[u8]) -> Option<(usize, usize)> {
        let text = String::from_utf8_lossy(received).to_ascii_lowercase();
        let header_len = received.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
        let (_, length) = text.split_once("content-length: ")?;
        let (length, _) = length.split_once("\r\n")?;
        Some((received.len() - header_len, length.parse().ok()?))
    }

    #[tokio::test]
    async fn span_is_finished_with_the_result() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (address, exported) = collector();
        let otlp_endpoint = OtlpEndpoint::parse(&address);
        let traces = Traces::open(&TracingConfig { otlp_endpoint, sample_one_in: 1 }).unwrap();
        let server = Server::new(traces.clone());
        let handler = |request: HttpRequest| {
            let id = "ydVECTOR0001".parse().unwrap();
            RequestContext::with(&request, |context| context.set_app(&id));
            // Statements of the request become children of its span.
            let trace = Trace::current().unwrap().traceparent();
            assert!(trace.contains(TRACE_ID) && trace != TRACEPARENT, "{trace}");
            HttpResponse::Ok().finish()
        };
        server.call(request().to_request(), handler).await;
        server.assert_logged(&["status=200", TRACE_ID]);
        traces.shut_down(TIMEOUT).await;
        let exported = exported.recv_timeout(TIMEOUT).unwrap();
        let exported = String::from_utf8_lossy(&exported);
        for part in ["http.request.method", "http.response.status_code", "ydVECTOR0001"] {
            assert!(exported.contains(part), "{part}: {exported}");
        }
    }
}
