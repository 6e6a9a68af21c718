//! What serves a connection, from its opening to its end: one of these on each thread.
//!
//! The framework's own server would do, had it limits for more than the first head of a connection.
//! So its parts are put together here, around a stream that is watched.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::{HttpService, KeepAlive, Protocol, Request};
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, fn_factory, fn_service, map_config,
};
use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{AppConfig, ServiceResponse};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::connection_state::{ConnectionState, ConnectionTimeouts, ProtocolState};
use super::graceful_shutdown::GracefulShutdown;
use super::h2_frame_tracker::FrameTracker;
use super::handshake::{Accepted, HttpVersion, Stream, handshake};
use super::http2;
use super::pipelining::NextRequestDetector;
use super::response_batching::batch_responses;
use super::timeout_stream::TimeoutStream;
use crate::http::options::Options;
use crate::metrics::{CloseReason, Metrics};

/// How long a connection stays open behind an answer that did not wait for the request's body.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// What connections are served with.
#[derive(Clone)]
pub(super) struct ConnectionHandler {
    pub(super) options: Options,
    pub(super) shutdown: Arc<GracefulShutdown>,
    /// Counts the connections.
    pub(super) metrics: Arc<Metrics>,
    /// Where TLS is spoken.
    pub(super) tls: Option<TlsAcceptor>,
}

/// What answers requests, once a thread has made it.
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

/// A connection that is open, for HTTP/1.
type Http1Connection = (TimeoutStream<Stream>, Protocol, Option<SocketAddr>);

/// What a thread serves connections with: `app` makes its application.
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
            Ok(fn_service(move |stream: TcpStream| {
                let (handler, app, http1) = (handler.clone(), app.clone(), http1.clone());
                async move { handler.serve(stream, &app, &*http1).await }
            }))
        }
    })
}

async fn http1<S, B>(
    app: Rc<S>,
    options: Options,
) -> Result<impl Service<Http1Connection, Response = ()>, ()>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let shared_app = move || {
        let app = app.clone();
        async move { Ok::<_, ()>(app) }
    };
    HttpService::build()
        // Progress knows when one that is not used any more ends.
        .keep_alive(KeepAlive::Os)
        .client_request_timeout(options.header_timeout)
        .client_disconnect_timeout(DISCONNECT_TIMEOUT)
        .on_connect_ext(|io: &TimeoutStream<Stream>, data| {
            data.insert(io.state().clone());
        })
        .finish(fn_factory(shared_app))
        .new_service(())
        .await
}

impl ConnectionHandler {
    /// Serves a connection until it ends. How it ends is the client's business only.
    async fn serve<S, B>(
        &self,
        stream: TcpStream,
        app: &Rc<S>,
        http1: &impl Service<Http1Connection, Response = ()>,
    ) -> Result<(), ()>
    where
        S: Service<Request, Response = ServiceResponse<B>, Error = Error> + 'static,
        B: MessageBody + 'static,
    {
        let _open = self.metrics.connections.open();
        let opened_at = Instant::now();
        let address = stream.peer_addr().ok();
        let accepted = handshake(stream, self.tls.as_ref(), self.options.header_timeout).await;
        let Accepted { stream, http_version: http, undecoded } =
            accepted.map_err(|error| self.record_handshake_failure(&error))?;
        let timeouts = ConnectionTimeouts {
            head: self.options.header_timeout,
            write: self.options.write_timeout,
            idle: self.options.keep_alive_timeout,
        };
        let protocol = match http {
            HttpVersion::H1 => ProtocolState::H1(NextRequestDetector::default()),
            HttpVersion::H2 => ProtocolState::H2(FrameTracker::default()),
        };
        let state = ConnectionState::new(timeouts, opened_at, protocol, undecoded);
        let stream = TimeoutStream::new(stream, state.clone());
        let result = match http {
            HttpVersion::H1 => http1.call((stream, Protocol::Http1, address)).await.map_err(drop),
            HttpVersion::H2 => {
                let (options, shutdown) = (self.options, &*self.shutdown);
                let result = http2::serve(stream, &state, address, app, options, shutdown).await;
                result.map_err(|error| tracing::debug!(%error, "HTTP/2"))
            }
        };
        if let Some(reason) = state.close_reason(result.is_ok()) {
            self.metrics.connections.record_closed(reason);
        }
        result
    }

    /// Who is gone was not cut off.
    fn record_handshake_failure(&self, error: &io::Error) {
        if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::InvalidData) {
            self.metrics.connections.record_closed(CloseReason::Handshake);
        }
        tracing::debug!(%error, "not opened");
    }
}
