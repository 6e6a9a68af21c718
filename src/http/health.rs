//! Health, for load balancers and operators.

use actix_web::http::header::ALLOW;
use actix_web::{HttpResponse, Resource, Route, guard, web};
use serde_json::json;

use super::middleware::request_metrics::RoutePattern;
use super::transport::GracefulShutdown;
use crate::service::Readiness;

pub(super) fn router(app: &mut web::ServiceConfig) {
    app.service(read_only("/healthz", web::route().to(healthz)))
        .service(read_only("/readyz", web::route().to(readyz)));
}

/// A path for `GET`, and for `HEAD`, which some load balancers use.
fn read_only(path: &'static str, route: Route) -> Resource {
    web::resource(path)
        .app_data(RoutePattern::new("", path))
        .route(route.guard(guard::Any(guard::Get()).or(guard::Head())))
        .default_service(web::to(|| async {
            HttpResponse::MethodNotAllowed()
                .insert_header((ALLOW, "GET, HEAD"))
                .json(json!({ "status": "error", "reason": "method: only GET and HEAD" }))
        }))
}

/// Reports that the process runs.
async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({
        "status": "ok", "service": "muster", "version": env!("CARGO_PKG_VERSION")
    }))
}

/// Reports whether the server takes requests, and the database answers and has the schema of this
/// program.
async fn readyz(
    readiness: web::Data<Readiness>,
    shutdown: web::Data<GracefulShutdown>,
) -> HttpResponse {
    if shutdown.is_draining() {
        return not_ready("the server is stopping");
    }
    match readiness.check().await {
        Ok(()) => HttpResponse::Ok().json(json!({ "status": "ready" })),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "not ready");
            not_ready(&error.to_string())
        }
    }
}

fn not_ready(reason: &str) -> HttpResponse {
    HttpResponse::ServiceUnavailable().json(json!({ "status": "not ready", "reason": reason }))
}
