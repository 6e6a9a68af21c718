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

use super::endpoint::Calls;
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
        .service(at("/limits").on(&READ, limits::get))
        .service(
            at("/sessions").on(&READ, list::sessions::list).on(&[Method::POST], create::create),
        )
        .service(at("/sessions/batch-get").on(&[Method::POST], list::batch_get::get))
        .service(at("/sessions/batch").on(&[Method::POST], batch::run))
        .service(
            at("/sessions/{sessionId}")
                .on(&READ, get::get)
                .on(&[Method::PATCH], update::update)
                .on(&[Method::DELETE], state::dissolve),
        )
        .service(
            at("/sessions/{sessionId}/members")
                .on(&READ, list::members::list)
                .on(&[Method::PUT], members::replace),
        )
        .service(
            at("/sessions/{sessionId}/members/{account}")
                .on(&READ, list::members::get)
                .on(&[Method::PUT], members::add)
                .on(&[Method::DELETE], members::remove),
        )
        .service(at("/sessions/{sessionId}/restore").on(&[Method::POST], state::restore))
        .service(at("/sessions/{sessionId}/revert").on(&[Method::POST], state::revert))
        .service(at("/sessions/{sessionId}/events").on(&READ, events::list))
        .service(at("/sessions/{sessionId}/diff").on(&READ, diff::get))
        .service(at("/openapi.json").on(&READ, openapi::get))
        .service(at("/docs").on(&READ, docs::page))
        .service(at("/docs/").on(&READ, docs::page_among_files))
        .service(at("/docs/{file}").on(&READ, docs::file))
        .default_service(web::to(not_found));
    app.service(scope);
}

async fn not_found() -> Result<HttpResponse, Problem> {
    Err(Problem::of(Code::EndpointNotFound, "path", error_text::NO_SUCH_ENDPOINT))
}

/// A path of this API.
fn at(path: &'static str) -> Calls<Problem> {
    Calls::at(PREFIX, path)
}
