//! `GET /v1/docs`: the description of this API as a web page, by Swagger UI. The program contains
//! all its files. The page loads nothing from other servers, and its policy forbids that.
//!
//! The program holds the large files compressed, as all browsers accept them. For other clients a
//! file is unpacked once and kept.

use std::io::{self, Read as _};
use std::sync::LazyLock;

use actix_web::http::header::{
    AcceptEncoding, CACHE_CONTROL, CONTENT_ENCODING, Encoding, Header as _, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use flate2::read::GzDecoder;

use crate::http::v1::problem::{Code, Problem};

/// Made by `build.rs`.
static BUNDLE: GzipAsset =
    GzipAsset::new(include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.js.gz")), || {
        BUNDLE.unpack()
    });
static STYLE: GzipAsset =
    GzipAsset::new(include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui.css.gz")), || {
        STYLE.unpack()
    });

/// A file that is compressed with gzip.
struct GzipAsset {
    gzip: &'static [u8],
    /// The unpacked file, for clients that do not accept gzip.
    plain: LazyLock<io::Result<Bytes>>,
}

impl GzipAsset {
    const fn new(gzip: &'static [u8], plain: fn() -> io::Result<Bytes>) -> Self {
        Self { gzip, plain: LazyLock::new(plain) }
    }

    fn unpack(&self) -> io::Result<Bytes> {
        let mut plain = Vec::new();
        GzDecoder::new(self.gzip).read_to_end(&mut plain)?;
        Ok(plain.into())
    }

    fn respond(&self, request: &HttpRequest, kind: &str) -> Result<HttpResponse, Problem> {
        let mut response = base_response(kind);
        response.insert_header((VARY, "Accept-Encoding"));
        if accepts_gzip(request) {
            return Ok(response.insert_header((CONTENT_ENCODING, "gzip")).body(self.gzip));
        }
        let plain = self.plain.as_ref().map_err(|error| Problem::internal(error))?;
        Ok(response.body(plain.clone()))
    }
}

fn accepts_gzip(request: &HttpRequest) -> bool {
    let supported = [Encoding::gzip(), Encoding::identity()];
    let accepted = AcceptEncoding::parse(request).ok();
    accepted.and_then(|accepted| accepted.negotiate(supported.iter())) == Some(Encoding::gzip())
}

/// Paths are relative to the page, so that it works behind a proxy that adds a prefix.
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

/// A session that is dissolved refuses changes, so these operations are the last ones of their group.
/// A newcomer can then execute all operations from top to bottom.
const START: &str = r##"const last = ["dissolveSession", "restoreSession"];
const rank = (entry) => last.indexOf(entry.getIn(["operation", "operationId"]));
SwaggerUIBundle({
  // The description is beside the directory of this script, at every address of the page.
  url: new URL("../openapi.json", document.currentScript.src).href,
  dom_id: "#api",
  deepLinking: true,
  operationsSorter: (one, other) => rank(one) - rank(other),
  // The validator would send the address of the description to another server.
  validatorUrl: null,
  // The page fills in lines of JSON as one JSON text.
  requestInterceptor: (request) => {
    const type = request.headers?.["Content-Type"] ?? "";
    if (type.includes("ndjson") && request.body.startsWith('"')) {
      request.body = JSON.parse(request.body);
    }
    return request;
  },
});
"##;

/// The page loads only from this server, and no other page may embed it. Swagger UI sets styles on
/// its elements, hence `unsafe-inline`, and has images in its style sheet, hence `data:`.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                      img-src 'self' data:; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// The documentation
///
/// A page for browsers. It loads nothing from other servers.
#[utoipa::path(
    get,
    path = "/v1/docs",
    operation_id = "getDocumentation",
    tag = "service",
    security(()),
    responses((status = 200, description = "The page", body = String, content_type = "text/html", example = json!("<!doctype html>")))
)]
pub(crate) async fn page() -> HttpResponse {
    base_response("text/html; charset=utf-8").body(PAGE)
}

/// The same page at `/v1/docs/`. Relative paths of its files have no directory there.
pub(crate) async fn page_with_slash() -> HttpResponse {
    base_response("text/html; charset=utf-8").body(PAGE.replace("=\"docs/", "=\""))
}

pub(crate) async fn file(
    request: HttpRequest,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    const SCRIPT: &str = "text/javascript; charset=utf-8";
    match name.as_str() {
        "start.js" => Ok(base_response(SCRIPT).body(START)),
        "swagger-ui-bundle.js" => BUNDLE.respond(&request, SCRIPT),
        "swagger-ui.css" => STYLE.respond(&request, "text/css; charset=utf-8"),
        _ => Err(Problem::for_field(Code::EndpointNotFound, "path", "no such file")),
    }
}

fn base_response(kind: &str) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .content_type(kind)
        .insert_header((CACHE_CONTROL, "max-age=3600"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header(("Content-Security-Policy", POLICY))
        .insert_header(("Referrer-Policy", "no-referrer"));
    response
}
