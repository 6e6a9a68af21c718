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
mod session;
mod token;

use actix_web::dev::HttpServiceFactory;
use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::{HttpResponse, ResponseError as _, Route, web};

use super::deadline;
use super::measure::Pattern;
use fault::Fault;

pub(super) fn router(app: &mut web::ServiceConfig) {
    app.service(only(Method::POST, "/cgi/gettoken", web::post().to(token::get)))
        .service(only(Method::POST, "/cgi/session/create", web::post().to(session::create)))
        .service(only(Method::GET, "/cgi/session/get", web::get().to(session::get)))
        .service(only(Method::POST, "/cgi/session/update", web::post().to(session::update)));
}

/// The answer to a path that nobody knows.
pub(super) async fn not_found() -> HttpResponse {
    Fault::not_found().error_response()
}

/// A path with one method, and a fault for all others.
fn only(method: Method, path: &'static str, route: Route) -> impl HttpServiceFactory + 'static {
    let other = web::to(move || {
        let fault = Fault::method_not_allowed(method.clone());
        async move { fault.error_response() }
    });
    let resource = web::resource(path).app_data(Pattern::new("", path));
    let resource = resource.route(route).default_service(other);
    resource.wrap(from_fn(deadline::keep::<Fault>))
}
