//! `/v1`: the REST API. Plain JSON, API keys, problems (RFC 9457).
//!
//! Nothing of the framework's own answers may get out: what a call takes is read by
//! [`call::Authorised`], whose every rejection is a [`problem::Problem`], and unknown paths and
//! methods have theirs.
//!
//! Adding a call: a handler in the file of its aggregate that takes an [`call::Authorised`] with
//! what it needs and the parts that it reads, its description in `#[utoipa::path]` with the same
//! parts in `params` and in [`problem::Problems`], a line in [`router`] and one in [`mod@openapi`],
//! then `muster openapi > openapi.json`.

mod answer;
mod batch;
mod call;
mod diff;
mod docs;
mod events;
mod field;
mod idempotency;
mod json;
mod limits;
mod list;
mod misplaced;
mod number;
mod object;
mod openapi;
mod page;
mod parameter;
mod path;
mod percent;
mod precondition;
mod problem;
mod query;
mod sessions;
mod text;
mod view;
mod write;

use actix_web::dev::HttpServiceFactory;
use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::{HttpResponse, Route, guard, web};

pub use openapi::openapi;

use super::deadline;
use super::measure::Pattern;
use problem::{Code, Problem};
use sessions::{create, get, members, state, update};

/// What all paths of this API begin with.
const PREFIX: &str = "/v1";

pub(super) fn router(app: &mut web::ServiceConfig) {
    let scope = web::scope(PREFIX)
        .wrap(from_fn(problem::with_request_id))
        .service(resource("/limits", [(Method::GET, web::route().to(limits::get))]))
        .service(resource(
            "/sessions",
            [
                (Method::GET, web::route().to(list::sessions::list)),
                (Method::POST, web::route().to(create::create)),
            ],
        ))
        .service(resource(
            "/sessions/batch-get",
            [(Method::POST, web::route().to(list::batch_get::get))],
        ))
        .service(resource("/sessions/batch", [(Method::POST, web::route().to(batch::run))]))
        .service(resource(
            "/sessions/{sessionId}",
            [
                (Method::GET, web::route().to(get::get)),
                (Method::PATCH, web::route().to(update::update)),
                (Method::DELETE, web::route().to(state::dissolve)),
            ],
        ))
        .service(resource(
            "/sessions/{sessionId}/members",
            [
                (Method::GET, web::route().to(list::members::list)),
                (Method::PUT, web::route().to(members::replace)),
            ],
        ))
        .service(resource(
            "/sessions/{sessionId}/members/{account}",
            [
                (Method::GET, web::route().to(list::members::get)),
                (Method::PUT, web::route().to(members::add)),
                (Method::DELETE, web::route().to(members::remove)),
            ],
        ))
        .service(resource(
            "/sessions/{sessionId}/restore",
            [(Method::POST, web::route().to(state::restore))],
        ))
        .service(resource(
            "/sessions/{sessionId}/revert",
            [(Method::POST, web::route().to(state::revert))],
        ))
        .service(resource(
            "/sessions/{sessionId}/events",
            [(Method::GET, web::route().to(events::list))],
        ))
        .service(resource(
            "/sessions/{sessionId}/diff",
            [(Method::GET, web::route().to(diff::get))],
        ))
        .service(resource("/openapi.json", [(Method::GET, web::route().to(openapi::get))]))
        .service(resource("/docs", [(Method::GET, web::route().to(docs::page))]))
        .service(resource("/docs/", [(Method::GET, web::route().to(docs::page_among_files))]))
        .service(resource("/docs/{file}", [(Method::GET, web::route().to(docs::file))]))
        .default_service(web::to(not_found));
    app.service(scope);
}

async fn not_found() -> Result<HttpResponse, Problem> {
    Err(Problem::of(Code::NoSuchPath, "path", "there is no such call"))
}

/// A path with its methods, and a problem for all others. `HEAD` works wherever `GET` does.
fn resource<const N: usize>(
    path: &'static str,
    calls: [(Method, Route); N],
) -> impl HttpServiceFactory + 'static {
    let mut resource = web::resource(path).app_data(Pattern::new(PREFIX, path));
    let mut allowed = Vec::new();
    for (method, route) in calls {
        allowed.push(method.to_string());
        let route = if method == Method::GET {
            allowed.push(Method::HEAD.to_string());
            route.guard(guard::Any(guard::Get()).or(guard::Head()))
        } else {
            route.guard(guard::Method(method))
        };
        resource = resource.route(route);
    }
    let allow = allowed.join(", ");
    let other = web::to(move || {
        let problem = Problem::method_not_allowed(&allow);
        async move { Err::<HttpResponse, _>(problem) }
    });
    resource.default_service(other).wrap(from_fn(deadline::keep::<Problem>))
}
