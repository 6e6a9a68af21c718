//! `POST /cgi/gettoken`.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::call::TokenRequest;
use super::error::CgiError;
use super::render::sealed_response;
use crate::http::auth::authenticate;
use crate::http::middleware::request_context::RequestContext;
use crate::service::Authenticator;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TokenResponse<'a> {
    access_token: &'a str,
    expire_in: u64,
}

/// Issues an access token to an app that proves its key by sealing the current time.
pub(super) async fn get(
    request: HttpRequest,
    authenticator: web::Data<Authenticator>,
    token_request: TokenRequest,
) -> Result<HttpResponse, CgiError> {
    let TokenRequest { app_context, encrypt } = token_request;
    let issued = authenticator.issue_token(&app_context, &encrypt);
    let issued = authenticate::verify_key_proof(&request, issued)?;
    authenticate::record_success(&request)?;
    let token = TokenResponse { access_token: &issued.access_token, expire_in: issued.expire_in };
    let json = serde_json::to_vec(&token).map_err(|error| CgiError::internal(&error))?;
    RequestContext::with(&request, RequestContext::mark_succeeded);
    Ok(sealed_response(app_context.envelope_of(issued.key), &json))
}
