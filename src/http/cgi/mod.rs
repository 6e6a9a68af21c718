//! `/cgi`: the wire protocol of the clients that exist.
//!
//! Every outcome that is this API's business is HTTP 200 with an `errcode`: the clients never read
//! the body of anything else. So nothing of the framework's own answers may get out: the extractors
//! here turn every rejection into a [`fault::Fault`], and unknown paths and methods have theirs.
//!
//! Adding a call: a handler in the file of its aggregate that takes a [`call::Call`] with the
//! permission it needs, a line in [`router`], a row in the README.

mod call;
mod fault;
mod message;
mod render;
mod session;
mod token;

use actix_web::http::Method;
use actix_web::{FromRequest, Handler, HttpResponse, ResponseError as _, web};

use super::endpoint::{Endpoint, IntoHttpResponse};
use fault::CgiError;

pub(super) fn router(app: &mut web::ServiceConfig) {
    app.service(endpoint(Method::POST, "/cgi/gettoken", token::get))
        .service(endpoint(Method::POST, "/cgi/session/create", session::create))
        .service(endpoint(Method::GET, "/cgi/session/get", session::get))
        .service(endpoint(Method::POST, "/cgi/session/update", session::update));
}

/// The answer to a path that nobody knows.
pub(super) async fn not_found() -> HttpResponse {
    CgiError::not_found().error_response()
}

/// A path with one method, and a fault for all others.
fn endpoint<H, A>(method: Method, path: &'static str, handler: H) -> Endpoint<CgiError>
where
    H: Handler<A, Output: IntoHttpResponse>,
    A: FromRequest + 'static,
{
    Endpoint::new("", path).method(&[method], handler)
}
