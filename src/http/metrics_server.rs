//! `/metrics`, on its own address, because metrics are for operators only.
//!
//! A separate thread answers, with connections of its own, so a scrape succeeds while all other threads
//! are busy or all connections of the API are in use.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use actix_server::ServerHandle;
use actix_web::http::header::{ACCEPT, CONTENT_TYPE};
use actix_web::middleware::from_fn;
use actix_web::{App, HttpRequest, HttpResponse, guard, web};

use super::middleware::pipeline;
use super::options::Options;
use super::transport::{Listener, Server};
use crate::metrics::Format;
use crate::service::MetricsSource;
use crate::telemetry::cause_chain;

/// More connections than scrapers need.
const MAX_CONNECTIONS: usize = 64;

/// A bound socket for metrics.
pub struct MetricsListener(Listener);

/// A server of `/metrics` and health.
pub struct MetricsServer(Server);

impl MetricsListener {
    /// Binds the first free address of `address`, as `HOST:PORT`; port 0 selects a free port.
    ///
    /// # Errors
    /// If the name is unknown, or all its addresses are unavailable.
    pub fn bind(address: &str) -> io::Result<Self> {
        Listener::bind(address).map(Self)
    }

    /// Uses a listening socket that another process holds too, and gives to the next server.
    ///
    /// # Errors
    /// If the system refuses an option of the socket.
    pub fn from_shared(socket: TcpListener) -> io::Result<Self> {
        Listener::from_shared(socket).map(Self)
    }

    /// The bound address.
    ///
    /// # Errors
    /// If the system does not report the address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.address()
    }

    /// Serves the metrics of `source`, within the limits of `options`, and the paths of `others`.
    ///
    /// # Errors
    /// If the system refuses the socket.
    pub(super) fn serve(
        self,
        source: Arc<MetricsSource>,
        options: Options,
        others: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
    ) -> io::Result<MetricsServer> {
        let options = Options {
            workers: 1,
            max_connections: MAX_CONNECTIONS,
            // Idle ones make room for others.
            max_connections_per_address: usize::MAX,
            ..options
        };
        let app = move || {
            let get = guard::Any(guard::Get()).or(guard::Head());
            App::new()
                .app_data(web::Data::from(source.clone()))
                .app_data(web::Data::new(options))
                .wrap(from_fn(pipeline::handle_unreported))
                .route("/metrics", web::route().guard(get).to(metrics))
                .configure(|app| others(app))
        };
        self.0.serve_app(options, app).map(MetricsServer)
    }
}

impl MetricsServer {
    /// Runs until shutdown.
    ///
    /// # Errors
    /// If the system refuses to wait for connections.
    pub async fn run(self) -> io::Result<()> {
        self.0.run().await
    }

    /// The handle that stops the server.
    #[must_use]
    pub fn shutdown_handle(&self) -> MetricsShutdown {
        MetricsShutdown(self.0.handle())
    }
}

/// Stops a [`MetricsServer`].
pub struct MetricsShutdown(ServerHandle);

impl MetricsShutdown {
    /// Stops at once, and closes open connections.
    pub async fn stop(&self) {
        self.0.stop(false).await;
    }
}

async fn metrics(request: HttpRequest, source: web::Data<MetricsSource>) -> HttpResponse {
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::from_accept(accept.unwrap_or_default());
    match source.render(format).await {
        Ok(text) => {
            HttpResponse::Ok().insert_header((CONTENT_TYPE, format.content_type())).body(text)
        }
        Err(error) => {
            tracing::error!(error = %cause_chain(&error), "cannot render the metrics");
            HttpResponse::InternalServerError().finish()
        }
    }
}
