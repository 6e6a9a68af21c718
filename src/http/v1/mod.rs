//! `/v1`: the REST API. Plain JSON, API keys, problems (RFC 9457).
//!
//! Nothing of the framework's own answers may get out: what a call takes is read by
//! [`extract::authorized::Authorised`], whose every rejection is a [`problem::Problem`], and unknown paths and
//! methods have theirs.
//!
//! Adding a call: a handler in the file of its aggregate that takes an [`extract::authorized::Authorised`] with
//! what it needs and the parts that it reads, its description in `#[utoipa::path]` with the same
//! parts in `params` and in [`problem::Problems`], a line in [`router`] and one in [`mod@openapi`],
//! then `muster openapi > openapi.json`.

mod endpoints;
mod extract;
mod openapi;
mod problem;
mod render;

use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::{HttpResponse, web};

pub use openapi::openapi;

use super::endpoint::Endpoint;
use super::shared::error_text;
use endpoints::sessions::{create, get, members, state, update};
use endpoints::{batch, diff, docs, events, limits, list};
use problem::{Code, Problem};

/// What all paths of this API begin with.
const PREFIX: &str = "/v1";

/// `HEAD` works wherever `GET` does.
const READ: [Method; 2] = [Method::GET, Method::HEAD];

pub(crate) fn router(app: &mut web::ServiceConfig) {
    let scope = web::scope(PREFIX)
        .wrap(from_fn(problem::with_request_id))
        .service(endpoint("/limits").method(&READ, limits::get))
        .service(
            endpoint("/sessions")
                .method(&READ, list::sessions::list)
                .method(&[Method::POST], create::create),
        )
        .service(endpoint("/sessions/batch-get").method(&[Method::POST], list::batch_get::get))
        .service(endpoint("/sessions/batch").method(&[Method::POST], batch::batch_sessions))
        .service(
            endpoint("/sessions/{sessionId}")
                .method(&READ, get::get)
                .method(&[Method::PATCH], update::update)
                .method(&[Method::DELETE], state::dissolve),
        )
        .service(
            endpoint("/sessions/{sessionId}/members")
                .method(&READ, list::members::list)
                .method(&[Method::PUT], members::replace),
        )
        .service(
            endpoint("/sessions/{sessionId}/members/{account}")
                .method(&READ, list::members::get)
                .method(&[Method::PUT], members::add)
                .method(&[Method::DELETE], members::remove),
        )
        .service(endpoint("/sessions/{sessionId}/restore").method(&[Method::POST], state::restore))
        .service(endpoint("/sessions/{sessionId}/revert").method(&[Method::POST], state::revert))
        .service(endpoint("/sessions/{sessionId}/events").method(&READ, events::list))
        .service(endpoint("/sessions/{sessionId}/diff").method(&READ, diff::get))
        .service(endpoint("/openapi.json").method(&READ, openapi::get))
        .service(endpoint("/docs").method(&READ, docs::page))
        .service(endpoint("/docs/").method(&READ, docs::page_with_slash))
        .service(endpoint("/docs/{file}").method(&READ, docs::file))
        .default_service(web::to(not_found));
    app.service(scope);
}

async fn not_found() -> Result<HttpResponse, Problem> {
    Err(Problem::for_field(Code::EndpointNotFound, "path", error_text::NO_SUCH_ENDPOINT))
}

/// A path of this API.
fn endpoint(path: &'static str) -> Endpoint<Problem> {
    Endpoint::new(PREFIX, path)
}
