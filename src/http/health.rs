//! Health, for load balancers and operators.

use actix_web::http::Method;
use actix_web::http::header::ALLOW;
use actix_web::{HttpResponse, Resource, Route, guard, web};
use serde_json::{Value, json};

use super::middleware::request_metrics::RoutePattern;
use super::transport::GracefulShutdown;
use crate::domain::quoted;
use crate::service::{
    DatabaseIdentity, DatabaseServerState, Readiness, ReadinessReport, ServerRole,
};

/// The reason why a server that stops is not ready.
const STOPPING: &str = "the server is stopping";

/// The header by which `muster doctor` recognizes a server of its database.
pub const FINGERPRINT_HEADER: &str = "x-muster-fingerprint";

pub(super) fn router(app: &mut web::ServiceConfig) {
    app.service(read_only("/healthz", web::route().to(healthz)))
        .service(read_only("/readyz", web::route().to(readyz)));
}

/// A path for `GET`, and for `HEAD`, which some load balancers use.
fn read_only(path: &'static str, route: Route) -> Resource {
    web::resource(path)
        .app_data(RoutePattern::new("", path))
        .route(route.guard(guard::Any(guard::Get()).or(guard::Head())))
        .default_service(web::to(|method: Method| async move {
            let reason = format!("method: only GET, HEAD, got {}", quoted(method.as_str()));
            HttpResponse::MethodNotAllowed()
                .insert_header((ALLOW, "GET, HEAD"))
                .json(json!({ "status": "error", "reason": reason }))
        }))
}

/// The fingerprint of this server at the port of a router.
pub(super) struct Fingerprint(Option<String>);

impl Fingerprint {
    /// The fingerprint of a server of this database that listens on a port.
    pub(super) fn new(database: &DatabaseIdentity, port: u16) -> Self {
        Self(database.fingerprint(port))
    }
}

/// Reports that the process runs.
async fn healthz(fingerprint: web::Data<Fingerprint>) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    if let Some(fingerprint) = &fingerprint.0 {
        response.insert_header((FINGERPRINT_HEADER, fingerprint.as_str()));
    }
    response.json(json!({
        "status": "ok", "service": "muster", "version": env!("CARGO_PKG_VERSION")
    }))
}

/// Reports whether the server takes requests, and the database answers and has the schema of this
/// program.
async fn readyz(
    readiness: web::Data<Readiness>,
    shutdown: web::Data<GracefulShutdown>,
) -> HttpResponse {
    let not_ready = |reason: &str| json!({ "status": "not ready", "reason": reason });
    if shutdown.is_draining() {
        return HttpResponse::ServiceUnavailable().json(not_ready(STOPPING));
    }
    let ReadinessReport { result, servers } = readiness.check().await;
    if shutdown.is_draining() {
        return HttpResponse::ServiceUnavailable().json(not_ready(STOPPING));
    }
    let (mut response, mut body) = match result {
        Ok(()) => (HttpResponse::Ok(), json!({ "status": "ready" })),
        Err(error) => (HttpResponse::ServiceUnavailable(), not_ready(&error.to_string())),
    };
    if !servers.is_empty() {
        body["servers"] = servers.iter().map(server_state).collect();
    }
    response.json(body)
}

/// The state of one of several database servers.
fn server_state(server: &DatabaseServerState) -> Value {
    let name = &server.name;
    match &server.role {
        ServerRole::Primary => json!({ "server": name, "role": "primary" }),
        ServerRole::ReadOnly => json!({ "server": name, "role": "read-only" }),
        ServerRole::Standby(lag) => json!({
            "server": name, "role": "standby",
            "behindBytes": lag.bytes, "behindSeconds": lag.seconds,
        }),
        // The reason may name internals, so it is in the log and not here.
        ServerRole::Unreachable(_) => json!({ "server": name, "role": "unreachable" }),
    }
}
