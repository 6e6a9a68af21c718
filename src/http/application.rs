//! The application: every path with its handlers, served on a bound socket.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::middleware::from_fn;
use actix_web::{App, web};

use super::body::budget::{BodyBudget, SharedBodyBudget};
use super::health::Fingerprint;
use super::metrics_server::{MetricsListener, MetricsServer};
use super::middleware::pipeline::Pipeline;
use super::options::Options;
use super::services::Services;
use super::transport::{GracefulShutdown, Listener, Server, ShutdownHandle, Tls};
use super::{cgi, health, start_page, v1};
use crate::service::{MetricsSource, Readiness};

/// Serves `services` on a bound socket. With `tls`, connections without TLS are refused.
///
/// # Errors
/// If the system refuses the socket.
pub fn serve(
    listener: Listener,
    services: Services,
    options: Options,
    tls: Option<&Tls>,
) -> io::Result<(Server, ShutdownHandle)> {
    let shutdown = Arc::new(GracefulShutdown::default());
    let (metrics, drain) = (services.metrics.clone(), shutdown.clone());
    let proxies = services.auth.client_ips().trusted_proxies().clone();
    let bodies = SharedBodyBudget::new(options.max_body_bytes_in_flight, metrics.clone());
    let bodies = Arc::new(bodies);
    let fingerprint = Fingerprint::new(services.readiness.database(), listener.address()?.port());
    let fingerprint = web::Data::new(fingerprint);
    let app = move || {
        let sessions = services.sessions.for_current_thread();
        let turns = sessions.work_turns().clone();
        let bodies = BodyBudget::for_current_thread(bodies.clone(), turns);
        let services = Services { sessions, ..services.clone() };
        let (client_ips, traces) = (services.auth.client_ips(), services.traces.clone());
        let metrics = services.metrics.clone();
        let pipeline = Pipeline::new(options, drain.clone(), client_ips, traces, metrics);
        let pipeline = Rc::new(pipeline);
        App::new()
            .wrap(from_fn(move |mut request, next| {
                cgi::path::normalize(&mut request);
                pipeline.clone().handle(request, next)
            }))
            .app_data(bodies)
            .app_data(fingerprint.clone())
            .app_data(web::Data::from(drain.clone()))
            .configure(|app| router(app, &services, options))
    };
    listener.serve(options, tls, metrics, shutdown, proxies, app)
}

/// Serves the metrics of `source`, and health once more: probes are answered here while all
/// connections of the API are in use. `api` is the server whose readiness the probes ask for.
///
/// # Errors
/// If the system refuses the socket.
pub fn serve_metrics(
    listener: MetricsListener,
    source: Arc<MetricsSource>,
    readiness: Arc<Readiness>,
    api: &ShutdownHandle,
    options: Options,
) -> io::Result<MetricsServer> {
    let shutdown = api.shutdown().clone();
    let fingerprint =
        web::Data::new(Fingerprint::new(readiness.database(), listener.address()?.port()));
    listener.serve(source, options, move |app: &mut web::ServiceConfig| {
        app.app_data(web::Data::from(readiness.clone()))
            .app_data(web::Data::from(shutdown.clone()))
            .app_data(fingerprint.clone())
            .configure(health::router);
    })
}

/// Registers every path and its handlers.
fn router(app: &mut web::ServiceConfig, services: &Services, options: Options) {
    app.app_data(web::Data::new(services.authenticator.clone()))
        .app_data(web::Data::new(services.sessions.clone()))
        .app_data(web::Data::from(services.auth.clone()))
        .app_data(web::Data::from(services.readiness.clone()))
        .app_data(web::Data::from(services.responses.clone()))
        .app_data(web::Data::new(options))
        .configure(health::router)
        .configure(start_page::router)
        .configure(cgi::router)
        .configure(v1::router)
        .default_service(web::to(cgi::not_found));
}
