//! `/metrics`, on an address of its own: what it tells is for operators and nobody else.
//!
//! A thread of its own answers, so that a scrape is answered while all others are busy.

use std::io;
use std::net::SocketAddr;
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

/// A socket on which metrics will be told.
pub struct MetricsListener(Listener);

/// Tells metrics while it runs.
pub struct MetricsServer(Server);

/// More than ever ask.
const MAX_CONNECTIONS: usize = 64;

impl MetricsListener {
    /// Takes the first free address of `address`, as `HOST:PORT`; port 0 is a free one.
    ///
    /// # Errors
    /// When the name is unknown, or no address of it can be taken.
    pub fn bind(address: &str) -> io::Result<Self> {
        Listener::bind(address).map(Self)
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.address()
    }

    /// What tells there what `observatory` sees, with the limits of `options` for those who ask.
    ///
    /// # Errors
    /// When the system refuses the socket.
    pub fn serve(self, source: Arc<MetricsSource>, options: Options) -> io::Result<MetricsServer> {
        let options = Options { workers: 1, max_connections: MAX_CONNECTIONS, ..options };
        let app = move || {
            let get = guard::Any(guard::Get()).or(guard::Head());
            App::new()
                .app_data(web::Data::from(source.clone()))
                .app_data(web::Data::new(options))
                .wrap(from_fn(pipeline::handle_unreported))
                .route("/metrics", web::route().guard(get).to(metrics))
        };
        self.0.serve_app(options, app).map(MetricsServer)
    }
}

impl MetricsServer {
    /// Tells until it is ended.
    ///
    /// # Errors
    /// When the system refuses to wait for connections.
    pub async fn run(self) -> io::Result<()> {
        self.0.run().await
    }

    /// What ends it.
    #[must_use]
    pub fn shutdown_handle(&self) -> MetricsShutdown {
        MetricsShutdown(self.0.handle())
    }
}

/// Ends what tells metrics.
pub struct MetricsShutdown(ServerHandle);

impl MetricsShutdown {
    /// Cuts off who asks now.
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
            tracing::error!(error = &error as &dyn std::error::Error, "cannot tell the metrics");
            HttpResponse::InternalServerError().finish()
        }
    }
}
