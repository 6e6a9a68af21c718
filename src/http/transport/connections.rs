//! Serves connections, from the handshake to the end. Each thread has one [`ConnectionHandler`].
//!
//! The framework's own server has a timeout for the first header section of a connection only. So
//! its parts are put together here, around a stream with timeouts.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_http::{HttpService, KeepAlive, Protocol, Request};
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, fn_factory, fn_service, map_config,
};
use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{AppConfig, ServiceResponse};
use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::address_limiter::AddressLimiter;
use super::connection_slots::{ConnectionSlots, Occupant};
use super::connection_state::{ConnectionState, ProtocolState};
use super::connection_timeouts::ConnectionTimeouts;
use super::graceful_shutdown::{GracefulShutdown, RequestCounter};
use super::h1_message_tracker::MessageTracker;
use super::h2_frame_tracker::FrameTracker;
use super::handshake::{AcceptedConnection, HttpVersion, Stream, handshake};
use super::pending_headers::HeaderBudget;
use super::response_batching::batch_responses;
use super::stream_memory::StreamBudget;
use super::timeout_stream::TimeoutStream;
use super::{expect_continue, http2};
use crate::http::options::Options;
use crate::metrics::{CloseReason, Metrics};

/// How long a connection stays open after a response that did not wait for the body of its request.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The turns of a thread after which the thread knows all connections that were accepted for it. A
/// connection needs one turn to be received and one to be started; the third is a reserve.
const TURNS_BEFORE_CLOSE: usize = 3;

/// The settings for serving connections.
#[derive(Clone)]
pub(super) struct ConnectionHandler {
    pub(super) options: Options,
    shutdown: Arc<GracefulShutdown>,
    /// Counts the connections.
    metrics: Arc<Metrics>,
    /// Accepts TLS, if it is configured.
    tls: Option<TlsAcceptor>,
    /// Limits the connections of an address, on all threads.
    addresses: Arc<AddressLimiter>,
    /// Limit the memory for headers, and for open HTTP/2 requests, on all threads.
    headers: Arc<HeaderBudget>,
    streams: Arc<StreamBudget>,
    /// The maximum number of connections of a thread.
    pub(super) max_per_thread: usize,
}

/// An application that each thread builds, and that answers requests.
pub(crate) trait HttpApp<B>:
    ServiceFactory<
        Request,
        Config = AppConfig,
        Response = ServiceResponse<B>,
        Error = Error,
        InitError = (),
        Service: 'static,
    >
{
}

impl<B, F> HttpApp<B> for F where
    F: ServiceFactory<
            Request,
            Config = AppConfig,
            Response = ServiceResponse<B>,
            Error = Error,
            InitError = (),
            Service: 'static,
        >
{
}

/// An open HTTP/1 connection.
type Http1Connection = (TimeoutStream<Stream>, Protocol, Option<SocketAddr>);

/// The service that handles the connections of a thread. `app` builds its application.
pub(super) fn service<A, F, B>(
    handler: ConnectionHandler,
    app: impl Fn() -> A + Clone + 'static,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = (), InitError = ()>
where
    A: IntoServiceFactory<F, Request>,
    F: HttpApp<B>,
    B: MessageBody + 'static,
{
    fn_factory(move || {
        let (handler, app) = (Rc::new(handler.clone()), app.clone());
        async move {
            let app = map_config(app(), |()| AppConfig::default());
            let app = Rc::new(batch_responses(app.new_service(()).await?));
            let http1 = Rc::new(http1(app.clone(), handler.options).await?);
            let thread = Rc::new(ThreadState {
                slots: ConnectionSlots::new(handler.max_per_thread),
                counter: Rc::new(handler.shutdown.counter()),
            });
            tokio::task::spawn_local(close_connections(handler.shutdown.clone(), thread.clone()));
            Ok(fn_service(move |stream: TcpStream| {
                let (handler, app, http1) = (handler.clone(), app.clone(), http1.clone());
                let thread = thread.clone();
                async move { handler.admit(stream, &thread, &app, &*http1).await }
            }))
        }
    })
}

/// The state that the connections of a thread share.
struct ThreadState {
    slots: Rc<ConnectionSlots>,
    counter: Rc<RequestCounter>,
}

/// Closes the connections of a thread when the server does. Until then, the thread itself counts as a
/// connection: the framework may have accepted some that the thread does not know yet.
async fn close_connections(shutdown: Arc<GracefulShutdown>, thread: Rc<ThreadState>) {
    let _open = shutdown.open();
    shutdown.wait_closing().await;
    for _ in 0..TURNS_BEFORE_CLOSE {
        tokio::task::yield_now().await;
    }
    thread.slots.close_connections();
}

async fn http1<S, B>(
    app: Rc<S>,
    options: Options,
) -> Result<impl Service<Http1Connection, Response = ()>, ()>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let asked_app = app.clone();
    let answer_or_ask = move || {
        let app = asked_app.clone();
        async move { Ok::<_, ()>(expect_continue::answer_or_ask(app)) }
    };
    let shared_app = move || {
        let app = app.clone();
        async move { Ok::<_, ()>(expect_continue::resume_calls(app)) }
    };
    HttpService::build()
        // `ConnectionState` ends idle connections.
        .keep_alive(KeepAlive::Os)
        .client_request_timeout(options.header_timeout)
        .client_disconnect_timeout(DISCONNECT_TIMEOUT)
        .expect(fn_factory(answer_or_ask))
        .on_connect_ext(|io: &TimeoutStream<Stream>, data| {
            data.insert(io.state().clone());
        })
        .finish(fn_factory(shared_app))
        .new_service(())
        .await
}

impl ConnectionHandler {
    /// Serves plain HTTP/1 and HTTP/2 within `options`, with a number of threads that is known.
    pub(super) fn new(
        options: Options,
        trusted_proxies: Arc<[IpNet]>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let workers = if options.workers == 0 { cores() } else { options.workers };
        let max_per_thread = options.max_connections.div_ceil(workers);
        let max = max_per_thread * workers;
        metrics.connections.max.store(max as u64, Ordering::Relaxed);
        let max_per_address = match options.max_connections_per_address {
            0 => max.div_ceil(2),
            limit => limit,
        };
        let addresses = Arc::new(AddressLimiter::new(max_per_address, trusted_proxies));
        let (options, shutdown) = (Options { workers, ..options }, Arc::default());
        let (headers, streams) = (HeaderBudget::new(), StreamBudget::new(metrics.clone()));
        Self { options, shutdown, metrics, tls: None, addresses, headers, streams, max_per_thread }
    }

    /// Accepts only TLS, if there is an acceptor.
    pub(super) fn with_tls(self, tls: Option<TlsAcceptor>) -> Self {
        Self { tls, ..self }
    }

    /// Counts connections and requests in `shutdown`, and closes connections when it says so.
    pub(super) fn with_shutdown(self, shutdown: Arc<GracefulShutdown>) -> Self {
        Self { shutdown, ..self }
    }

    /// Serves a connection when there is a slot for it, until it ends or must make room for another
    /// one. An error concerns its client only.
    async fn admit<S, B>(
        &self,
        stream: TcpStream,
        thread: &ThreadState,
        app: &Rc<S>,
        http1: &impl Service<Http1Connection, Response = ()>,
    ) -> Result<(), ()>
    where
        S: Service<Request, Response = ServiceResponse<B>, Error = Error> + 'static,
        B: MessageBody + 'static,
    {
        let _unclosed = self.shutdown.open();
        // A connection without an address is closed already.
        let address = stream.peer_addr().map_err(drop)?;
        let Some(_counted) = self.addresses.acquire(address.ip()) else {
            self.metrics.connections.record_closed(CloseReason::Address);
            return Err(());
        };
        let slot = thread.slots.acquire().await;
        let _open = self.metrics.connections.open();
        tokio::select! {
            biased;
            result = self.serve(stream, address, slot.occupant(), thread, app, http1) => result,
            () = poll_fn(|cx| slot.occupant().poll_evicted(cx)) => {
                self.metrics.connections.record_closed(CloseReason::Evicted);
                Ok(())
            }
        }
    }

    /// Serves a connection until it ends.
    async fn serve<S, B>(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        occupant: &Rc<Occupant>,
        thread: &ThreadState,
        app: &Rc<S>,
        http1: &impl Service<Http1Connection, Response = ()>,
    ) -> Result<(), ()>
    where
        S: Service<Request, Response = ServiceResponse<B>, Error = Error> + 'static,
        B: MessageBody + 'static,
    {
        let opened_at = Instant::now();
        let headers = self.headers.connection(address.ip());
        let accepted = handshake(stream, self.tls.as_ref(), self.options.header_timeout).await;
        let AcceptedConnection { stream, http_version, undecoded } =
            accepted.map_err(|error| self.record_handshake_failure(&error))?;
        let timeouts = ConnectionTimeouts {
            header: self.options.header_timeout,
            write: self.options.write_timeout,
            idle: self.options.keep_alive_timeout,
        };
        let protocol = match http_version {
            HttpVersion::H1 => ProtocolState::H1(MessageTracker::default()),
            HttpVersion::H2 => ProtocolState::H2(FrameTracker::default()),
        };
        let (occupant, counter) = (occupant.clone(), thread.counter.clone());
        let state = ConnectionState::new(
            timeouts, opened_at, protocol, undecoded, headers, occupant, counter,
        );
        let stream = TimeoutStream::new(stream, state.clone());
        let result = match http_version {
            HttpVersion::H1 => {
                http1.call((stream, Protocol::Http1, Some(address))).await.map_err(drop)
            }
            HttpVersion::H2 => {
                let (options, shutdown) = (self.options, &*self.shutdown);
                let client = http2::Http2Client::new(address, &self.streams);
                let result = http2::serve(stream, &state, client, app, options, shutdown).await;
                result.map_err(|error| tracing::debug!(%error, "HTTP/2"))
            }
        };
        // Nothing more can be written.
        state.requests().on_written();
        if let Some(reason) = state.close_reason(result.is_ok()) {
            self.metrics.connections.record_closed(reason);
        }
        result
    }

    /// Counts a failed handshake, unless the client closed the connection.
    fn record_handshake_failure(&self, error: &io::Error) {
        if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::InvalidData) {
            self.metrics.connections.record_closed(CloseReason::Handshake);
        }
        tracing::debug!(%error, "not opened");
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}
