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

use super::connection_state::{Came, Patience, Progress};
use super::graceful_shutdown::Drain;
use super::h2_frame_tracker::Frames;
use super::handshake::{Http, Opened, Stream, open};
use super::http2;
use super::pipelining::Tail;
use super::response_batching::batch_responses;
use super::timeout_stream::Watched;
use crate::http::options::Options;
use crate::metrics::{Cut, Metrics};

/// How long a connection stays open behind an answer that did not wait for the request's body.
const LINGER: Duration = Duration::from_secs(1);

/// What connections are served with.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) options: Options,
    pub(super) drain: Arc<Drain>,
    /// Counts the connections.
    pub(super) metrics: Arc<Metrics>,
    /// Where TLS is spoken.
    pub(super) tls: Option<TlsAcceptor>,
}

/// What answers requests, once a thread has made it.
pub(crate) trait Application<B>:
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

impl<B, F> Application<B> for F where
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
type Connection = (Watched<Stream>, Protocol, Option<SocketAddr>);

/// What a thread serves connections with: `app` makes its application.
pub(super) fn service<A, F, B>(
    door: Door,
    app: impl Fn() -> A + Clone + 'static,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = (), InitError = ()>
where
    A: IntoServiceFactory<F, Request>,
    F: Application<B>,
    B: MessageBody + 'static,
{
    fn_factory(move || {
        let (door, app) = (Rc::new(door.clone()), app.clone());
        async move {
            let app = map_config(app(), |()| AppConfig::default());
            let app = Rc::new(batch_responses(app.new_service(()).await?));
            let http1 = Rc::new(http1(app.clone(), door.options).await?);
            Ok(fn_service(move |stream: TcpStream| {
                let (door, app, http1) = (door.clone(), app.clone(), http1.clone());
                async move { door.serve(stream, &app, &*http1).await }
            }))
        }
    })
}

async fn http1<S, B>(
    app: Rc<S>,
    options: Options,
) -> Result<impl Service<Connection, Response = ()>, ()>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let same = move || {
        let app = app.clone();
        async move { Ok::<_, ()>(app) }
    };
    HttpService::build()
        // Progress knows when one that is not used any more ends.
        .keep_alive(KeepAlive::Os)
        .client_request_timeout(options.header_timeout)
        .client_disconnect_timeout(LINGER)
        .on_connect_ext(|io: &Watched<Stream>, data| {
            data.insert(io.progress().clone());
        })
        .finish(fn_factory(same))
        .new_service(())
        .await
}

impl Door {
    /// Serves a connection until it ends. How it ends is the client's business only.
    async fn serve<S, B>(
        &self,
        stream: TcpStream,
        app: &Rc<S>,
        http1: &impl Service<Connection, Response = ()>,
    ) -> Result<(), ()>
    where
        S: Service<Request, Response = ServiceResponse<B>, Error = Error> + 'static,
        B: MessageBody + 'static,
    {
        let _open = self.metrics.connections.open();
        let opened_at = Instant::now();
        let address = stream.peer_addr().ok();
        let opened = open(stream, self.tls.as_ref(), self.options.header_timeout).await;
        let Opened { stream, http, undecoded } = opened.map_err(|error| self.not_opened(&error))?;
        let patience = Patience {
            head: self.options.header_timeout,
            write: self.options.write_timeout,
            idle: self.options.keep_alive_timeout,
        };
        let came = match http {
            Http::One => Came::One(Tail::default()),
            Http::Two => Came::Two(Frames::default()),
        };
        let progress = Progress::new(patience, opened_at, came, undecoded);
        let stream = Watched::new(stream, progress.clone());
        let served = match http {
            Http::One => http1.call((stream, Protocol::Http1, address)).await.map_err(drop),
            Http::Two => {
                let (options, drain) = (self.options, &*self.drain);
                let served = http2::serve(stream, &progress, address, app, options, drain).await;
                served.map_err(|error| tracing::debug!(%error, "HTTP/2"))
            }
        };
        if let Some(cut) = progress.was_cut(served.is_ok()) {
            self.metrics.connections.cut(cut);
        }
        served
    }

    /// Who is gone was not cut off.
    fn not_opened(&self, error: &io::Error) {
        if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::InvalidData) {
            self.metrics.connections.cut(Cut::Handshake);
        }
        tracing::debug!(%error, "not opened");
    }
}
