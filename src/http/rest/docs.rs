//! `GET /v1/docs`: the description of this API for people, in Swagger UI. The program has all of
//! it: nothing is fetched from elsewhere, and the browser is told to fetch nothing from there.
//!
//! Its large files are kept compressed and never unpacked: it is browsers that ask for them, and
//! all of those take gzip.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_ENCODING, X_CONTENT_TYPE_OPTIONS};
use actix_web::{HttpResponse, HttpResponseBuilder, web};

use super::problem::{Code, Problem};

/// Made by `build.rs`.
const BUNDLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.js.gz"));
const STYLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui.css.gz"));

/// Paths count from where the page is, so that it works behind a proxy that adds to them.
const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Muster API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="api"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"#;

const START: &str = r##"SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#api",
  deepLinking: true,
  // Would send the address of the description elsewhere.
  validatorUrl: null,
});
"##;

/// Only this server may be asked, and nobody may show the page inside of theirs. Swagger UI sets
/// styles on its elements and has images in its style sheet.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                      img-src 'self' data:; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// The description for people
///
/// A page for browsers; it needs no other server than this one.
#[utoipa::path(
    get,
    path = "/v1/docs",
    operation_id = "getDocumentation",
    tag = "service",
    security(()),
    responses((status = 200, description = "The page", body = String, content_type = "text/html", example = json!("<!doctype html>")))
)]
pub(super) async fn page() -> HttpResponse {
    answer("text/html; charset=utf-8").body(PAGE)
}

pub(super) async fn file(name: web::Path<String>) -> Result<HttpResponse, Problem> {
    const SCRIPT: &str = "text/javascript; charset=utf-8";
    let packed = |kind, bytes| answer(kind).insert_header((CONTENT_ENCODING, "gzip")).body(bytes);
    match name.as_str() {
        "start.js" => Ok(answer(SCRIPT).body(START)),
        "swagger-ui-bundle.js" => Ok(packed(SCRIPT, BUNDLE)),
        "swagger-ui.css" => Ok(packed("text/css; charset=utf-8", STYLE)),
        _ => Err(Problem::of(Code::NoSuchPath, "path", "there is no such file")),
    }
}

fn answer(kind: &str) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .content_type(kind)
        .insert_header((CACHE_CONTROL, "max-age=3600"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header(("Content-Security-Policy", POLICY))
        .insert_header(("Referrer-Policy", "no-referrer"));
    response
}
