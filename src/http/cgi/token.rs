//! `POST /cgi/gettoken`.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::call::Application;
use super::fault::Fault;
use super::render::sealed;
use crate::http::auth::authenticate;
use crate::http::middleware::request_context::Noted;
use crate::service::Authenticator;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Token<'a> {
    access_token: &'a str,
    expire_in: u64,
}

/// Gives an access token to an app that can seal the time.
pub(super) async fn get(
    request: HttpRequest,
    access: web::Data<Authenticator>,
    application: Application,
) -> Result<HttpResponse, Fault> {
    let Application { known, message } = application;
    let grant = authenticate::has_key::<_, Fault>(&request, access.issue_token(&known, &message))?;
    authenticate::has_proved_itself(&request)?;
    let token = Token { access_token: &grant.access_token, expire_in: grant.expire_in };
    let json = serde_json::to_vec(&token).map_err(|error| Fault::internal(&error))?;
    Noted::on(&request, Noted::succeeded);
    Ok(sealed(&known.envelope, &json))
}
