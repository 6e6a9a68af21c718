//! `/v1`: the REST API. Plain JSON, API keys, problems (RFC 9457).
//!
//! An error response of the framework must not reach a client. Therefore
//! [`extract::authorized::Authorized`] reads every request and refuses it with a
//! [`problem::Problem`]. Unknown paths and methods get a problem too.
//!
//! `docs/development/adding-an-endpoint.md` lists the steps for a new endpoint.

mod endpoints;
mod extract;
mod openapi;
mod problem;
mod render;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::{Next, from_fn};
use actix_web::{Error, HttpResponse, web};

pub use openapi::{openapi, openapi_3_0};

use super::endpoint::Endpoint;
use super::shared::error_text;
use endpoints::sessions::{create, get, members, state, update};
use endpoints::{batch, compare, consumers, diff, docs, events, feed, limits, list};
use extract::conditions;
use problem::{Code, Problem};

/// The start of every path of this API.
const PREFIX: &str = "/v1";

/// Every endpoint with `GET` also has `HEAD`.
const READ: [Method; 2] = [Method::GET, Method::HEAD];

pub(crate) fn router(app: &mut web::ServiceConfig) {
    let scope = web::scope(PREFIX)
        .wrap(from_fn(finish))
        .service(endpoint("/limits").method(&READ, limits::get))
        .service(
            endpoint("/sessions")
                .method(&READ, list::sessions::list)
                .method(&[Method::POST], create::create),
        )
        .service(endpoint("/events").method(&READ, feed::page::list))
        .service(endpoint("/sessions/batch-get").read_by_post(list::batch_get::get))
        .service(endpoint("/sessions/compare").read_by_post(compare::compare))
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
        .service(endpoint("/consumers").method(&READ, consumers::status::list))
        .service(
            endpoint("/consumers/{name}")
                .method(&READ, consumers::status::get)
                .method(&[Method::PUT], consumers::put::put)
                .method(&[Method::DELETE], consumers::manage::remove),
        )
        .service(
            endpoint("/consumers/{name}/fetch").method(&[Method::POST], consumers::fetch::fetch),
        )
        .service(
            endpoint("/consumers/{name}/ack")
                .method(&[Method::POST], consumers::acknowledge::acknowledge),
        )
        .service(
            endpoint("/consumers/{name}/reset").method(&[Method::POST], consumers::manage::reset),
        )
        .service(
            endpoint("/consumers/{name}/release")
                .method(&[Method::POST], consumers::manage::release),
        )
        .service(endpoint("/openapi.json").method(&READ, openapi::get))
        .service(endpoint("/docs").method(&READ, docs::page))
        .service(endpoint("/docs/").method(&READ, docs::page_with_slash))
        .service(endpoint("/docs/{file}").method(&READ, docs::file))
        .default_service(web::to(not_found));
    app.service(scope);
}

/// The middleware of all endpoints: evaluates the conditions of reads, and adds request ids to
/// problems.
async fn finish(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let response = next.call(request).await?;
    let replaced =
        conditions::evaluate_read(response.request(), response.status(), response.headers());
    Ok(match replaced {
        Ok(None) => problem::with_request_id(response),
        Ok(Some(replaced)) => response.into_response(replaced),
        Err(problem) => {
            problem::with_request_id(response.into_response(HttpResponse::from_error(problem)))
        }
    })
}

async fn not_found() -> Result<HttpResponse, Problem> {
    Err(Problem::for_field(Code::EndpointNotFound, "path", error_text::NO_SUCH_ENDPOINT))
}

/// A path of this API.
fn endpoint(path: &'static str) -> Endpoint<Problem> {
    Endpoint::new(PREFIX, path)
}
