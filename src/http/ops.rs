//! Health, for load balancers and operators.

use actix_web::{HttpResponse, web};
use serde_json::json;

use crate::service::Readiness;

pub(super) fn router(app: &mut web::ServiceConfig) {
    app.route("/healthz", web::get().to(healthz)).route("/readyz", web::get().to(readyz));
}

/// The process is up.
async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({
        "status": "ok", "service": "muster", "version": env!("CARGO_PKG_VERSION")
    }))
}

/// The database answers and has the schema of this program.
async fn readyz(readiness: web::Data<Readiness>) -> HttpResponse {
    match readiness.check().await {
        Ok(()) => HttpResponse::Ok().json(json!({ "status": "ready" })),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "not ready");
            let reason = error.to_string();
            HttpResponse::ServiceUnavailable()
                .json(json!({ "status": "not ready", "reason": reason }))
        }
    }
}
