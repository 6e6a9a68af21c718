//! `POST /cgi/gettoken`.

use std::pin::Pin;
use std::sync::Arc;

use actix_web::{FromRequest, HttpRequest, HttpResponse, dev, web};
use serde::Serialize;
use tokio::time::Instant;

use super::call::refuse_conditions;
use super::error::CgiError;
use super::message::RequestBody;
use super::render::sealed_response;
use crate::domain::MessageForm;
use crate::http::auth::{authenticate, caller_body, sealed_texts};
use crate::http::middleware::request_context::RequestContext;
use crate::http::uri;
use crate::service::{AppContext, AuthError, Authenticator, Error};

/// The largest body of a request for a token, which every client may send. The usual one has 250 bytes.
const MAX_TOKEN_REQUEST_BYTES: usize = 4_096;

/// A request for an access token: the app and its sealed proof.
pub(super) struct TokenRequest {
    app_context: Arc<AppContext>,
    encrypt: String,
    /// The time at which the whole request had arrived.
    arrived_at: Instant,
}

async fn read_token_request(
    request: &HttpRequest,
    payload: &mut dev::Payload,
) -> Result<TokenRequest, CgiError> {
    uri::check_len(request)?;
    let body = caller_body::read_proof(request, payload, MAX_TOKEN_REQUEST_BYTES).await?;
    let arrived_at = Instant::now();
    refuse_conditions(request)?;
    let body = RequestBody::new(request, body);
    let object = body.object()?;
    let envelope = body.envelope_fields(&object)?;
    let buin = envelope.buin.ok_or(Error::Denied(AuthError::WrongEnterprise))?;
    let encrypt = envelope.encrypt;
    let app_context =
        authenticate::authenticate_token_request(request, (buin, envelope.app_id), encrypt).await?;
    app_context.require_form(MessageForm::Sealed)?;
    Ok(TokenRequest { app_context, encrypt: encrypt.to_owned(), arrived_at })
}

impl FromRequest for TokenRequest {
    type Error = CgiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, CgiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        let mut payload = payload.take();
        Box::pin(async move { read_token_request(&request, &mut payload).await })
    }
}

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
    let TokenRequest { app_context, encrypt, arrived_at } = token_request;
    let issued = authenticator.issue_token(&app_context, &encrypt);
    if issued.is_err() {
        sealed_texts::wait_to_refuse(arrived_at, encrypt.len()).await;
    }
    let issued = authenticate::verify_key_proof(&request, issued)?;
    authenticate::record_success(&request)?;
    let token = TokenResponse { access_token: &issued.access_token, expire_in: issued.expire_in };
    let json = serde_json::to_vec(&token).map_err(|error| CgiError::internal(&error))?;
    RequestContext::with(&request, RequestContext::mark_succeeded);
    Ok(sealed_response(app_context.envelope_of(issued.key), &json))
}
