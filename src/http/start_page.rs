//! `GET /` for browsers: a page with the version and links. It needs no key and holds no secret.
//!
//! The path exists only for requests that ask for HTML. All other requests for `/` get the answer of
//! an unknown path, as before the page existed.

use actix_web::guard::{self, Guard, GuardContext};
use actix_web::http::header::{
    Accept, CACHE_CONTROL, ContentType, Quality, VARY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::{HttpResponse, web};

use super::middleware::request_metrics::RoutePattern;

/// Paths are relative, so that the links work behind a proxy that adds a prefix.
const PAGE: &str = concat!(
    r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Muster</title>
<link rel="icon" href="data:,">
</head>
<body>
<h1>Muster "#,
    env!("CARGO_PKG_VERSION"),
    r#"</h1>
<p>A persistent session service for internal apps. This server runs.</p>
<ul>
<li><a href="v1/docs">The REST API, to read and to try</a></li>
<li><a href="v1/openapi.json">Its description, as OpenAPI 3.1</a></li>
<li><a href="healthz">Health</a>: whether the server runs</li>
<li><a href="readyz">Readiness</a>: whether its database answers</li>
</ul>
</body>
</html>
"#
);

/// The page has no script, style or form. `data:` is for its empty icon.
const POLICY: &str = "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

pub(super) fn router(app: &mut web::ServiceConfig) {
    let read = guard::Any(guard::Get()).or(guard::Head());
    let page = web::resource("/")
        .app_data(RoutePattern::new("", "/"))
        .guard(guard::fn_guard(move |request| read.check(request) && wants_html(request)))
        .to(page);
    app.service(page);
}

/// Whether the request names `text/html`, and does not prefer JSON. `*/*` alone is not enough,
/// because programs send it as well.
fn wants_html(request: &GuardContext<'_>) -> bool {
    let Some(Accept(kinds)) = request.header::<Accept>() else { return false };
    let quality = |kind: &str| {
        let named = kinds.iter().filter(|accepted| accepted.item.essence_str() == kind);
        named.map(|accepted| accepted.quality).max().unwrap_or(Quality::ZERO)
    };
    let html = quality("text/html");
    html > Quality::ZERO && html >= quality("application/json")
}

async fn page() -> HttpResponse {
    HttpResponse::Ok()
        .content_type(ContentType::html())
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header((VARY, "Accept"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header(("Content-Security-Policy", POLICY))
        .insert_header(("Referrer-Policy", "no-referrer"))
        .body(PAGE)
}
