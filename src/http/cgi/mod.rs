//! `/cgi`: the wire protocol of the existing clients.
//!
//! Most responses are HTTP 200 with an `errcode`: the clients do not read the body of any other
//! status. An error response of the framework must not reach a client. Therefore the extractors
//! here turn every rejection into a [`error::CgiError`]. Unknown paths and methods get one too.
//!
//! `docs/development/adding-an-endpoint.md` lists the steps for a new endpoint.

mod base_request;
mod call;
mod error;
mod message;
pub(super) mod path;
mod render;
mod session;
mod token;
mod vendor;

use actix_web::http::Method;
use actix_web::{FromRequest, Handler, HttpRequest, HttpResponse, ResponseError as _, web};

use super::endpoint::{Endpoint, IntoHttpResponse};
use base_request::CgiSessionResponse;
use error::CgiError;

pub(super) fn router(app: &mut web::ServiceConfig) {
    app.service(endpoint(Method::POST, "/cgi/gettoken", token::get))
        .service(session_endpoint(Method::POST, "/cgi/session/create", session::create))
        .service(session_endpoint(Method::GET, "/cgi/session/get", session::get))
        .service(session_endpoint(Method::POST, "/cgi/session/update", session::update));
}

/// The response to an unknown path.
pub(super) async fn not_found(request: HttpRequest) -> HttpResponse {
    let error = match vendor::is_vendor_call(request.path()) {
        true => CgiError::not_implemented(),
        false => CgiError::not_found(),
    };
    error.error_response()
}

/// A path about sessions, with one method. The type of the response makes sure that the request context
/// knows the session.
fn session_endpoint<H, A>(method: Method, path: &'static str, handler: H) -> Endpoint<CgiError>
where
    H: Handler<A, Output = Result<CgiSessionResponse, CgiError>>,
    A: FromRequest + 'static,
{
    endpoint(method, path, handler)
}

/// A path with one method. All other methods get an error.
fn endpoint<H, A>(method: Method, path: &'static str, handler: H) -> Endpoint<CgiError>
where
    H: Handler<A, Output: IntoHttpResponse>,
    A: FromRequest + 'static,
{
    Endpoint::new("", path).method(&[method], handler)
}
