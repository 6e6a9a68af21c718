//! The extractors of this API. Each one checks the caller and reads the message.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::pin::Pin;

use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpRequest, HttpResponse, dev};

use super::error::CgiError;
use super::message::RequestBody;
use super::render::{plain_response, sealed_response, to_json};
use crate::domain::{Invalid, SessionId};
use crate::http::auth::authenticate;
use crate::http::middleware::request_context::RequestContext;
use crate::http::shared::permission::RequiredPermission;
use crate::http::uri;
use crate::service::{AppContext, AuthError, CachedSession, Caller, Credential, Error};
use crate::wire::{self, Errcode, FieldError, JsonObject};

/// A `POST` of an app with the permission `N`, with the opened message.
pub(super) struct PostRequest<N> {
    base: GetRequest<N>,
    message: Bytes,
}

/// A `GET` of an app with the permission `N`.
pub(super) struct GetRequest<N> {
    caller: Caller,
    /// Whether the response is sealed in an envelope.
    sealed: bool,
    request: HttpRequest,
    needs: PhantomData<N>,
}

impl<N> PostRequest<N> {
    pub(super) fn caller(&self) -> &Caller {
        &self.base.caller
    }

    /// The message: the content of the envelope, or the bare body.
    pub(super) fn object(&self) -> Result<JsonObject<'_>, CgiError> {
        let location = if self.base.sealed { "encrypt" } else { "body" };
        JsonObject::parse(&self.message).map_err(|error| CgiError::malformed(location, &error))
    }

    /// The session that the message names. The request context records it.
    pub(super) fn session_id(&self, message: &JsonObject<'_>) -> Result<SessionId, CgiError> {
        let wrong = |error: FieldError| CgiError::new(Errcode::SessionIdInvalid, error.to_string());
        self.base.named(message.text("sessionId").map_err(wrong)?)
    }

    /// A response whose result is a session.
    pub(super) fn respond(&self, session: &CachedSession) -> HttpResponse {
        self.base.respond(session)
    }
}

impl<N> GetRequest<N> {
    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The session that the query names. The request context records it.
    pub(super) fn session_id(&self) -> Result<SessionId, CgiError> {
        self.named(query_value(self.request.query_string(), "sessionId")?.as_deref())
    }

    fn named(&self, text: Option<&str>) -> Result<SessionId, CgiError> {
        let text = text
            .filter(|text| !text.is_empty())
            .ok_or_else(|| CgiError::missing(Errcode::SessionIdMissing, "sessionId"))?;
        let wrong = |error: Invalid| {
            CgiError::new(Errcode::SessionIdInvalid, format!("sessionId: {error}"))
        };
        let id = text.parse().map_err(wrong)?;
        RequestContext::with(&self.request, |context| context.set_session(id));
        Ok(id)
    }

    /// A response whose result is a session. The request context records the session here: a new
    /// session had no id before.
    pub(super) fn respond(&self, session: &CachedSession) -> HttpResponse {
        let json = session.json(to_json);
        let response = if self.sealed {
            sealed_response(&self.caller.app_context().envelope, json)
        } else {
            plain_response(json)
        };
        RequestContext::with(&self.request, |context| {
            context.set_session(session.id);
            context.mark_succeeded();
        });
        response
    }
}

async fn authenticate<N: RequiredPermission>(request: &HttpRequest) -> Result<Caller, CgiError> {
    let token = query_value(request.query_string(), "accessToken")?.unwrap_or_default();
    let caller = authenticate::authenticate(request, &token).await?;
    // This API has no endpoint for administrators: `sessions:admin` replaces no other permission.
    if let Some(least) = N::ANY_OF.first() {
        caller.require(*least)?;
    }
    Ok(caller)
}

async fn read_post_request<N: RequiredPermission>(
    request: HttpRequest,
    payload: &mut dev::Payload,
) -> Result<PostRequest<N>, CgiError> {
    uri::check_len(&request)?;
    // The body comes first: a client that still sends its request may never read the response.
    let body = RequestBody::read(&request, payload).await?;
    let caller = authenticate::<N>(&request).await?;
    let object = body.object()?;
    if caller.credential() == Credential::ApiKey && !object.has("encrypt") {
        let base = GetRequest { caller, sealed: false, request, needs: PhantomData };
        drop(object);
        return Ok(PostRequest { base, message: body.into_bytes() });
    }
    if !object.has("encrypt") {
        return Err(CgiError::missing(Errcode::EncryptMissing, "encrypt"));
    }
    let envelope = body.envelope_fields(&object)?;
    let app = caller.app();
    if envelope.buin != Some(app.buin.get()) {
        return Err(AuthError::WrongEnterprise.into());
    }
    if envelope.app_id != app.app_id.as_str() {
        let errmsg = "appId: not the app of the access token";
        return Err(CgiError::new(Errcode::InvalidAppId, errmsg));
    }
    let message = caller.app_context().envelope.open(envelope.encrypt)?;
    let base = GetRequest { caller, sealed: true, request, needs: PhantomData };
    Ok(PostRequest { base, message: message.into() })
}

impl<N: RequiredPermission> FromRequest for PostRequest<N> {
    type Error = CgiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, CgiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        let mut payload = payload.take();
        Box::pin(async move { read_post_request(request, &mut payload).await })
    }
}

impl<N: RequiredPermission> FromRequest for GetRequest<N> {
    type Error = CgiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, CgiError>>>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            uri::check_len(&request)?;
            let caller = authenticate::<N>(&request).await?;
            let sealed = caller.credential() == Credential::Token;
            Ok(Self { caller, sealed, request, needs: PhantomData })
        })
    }
}

/// A request for an access token: the app and the opened message.
pub(super) struct TokenRequest {
    pub(super) app_context: std::sync::Arc<AppContext>,
    pub(super) message: String,
}

async fn read_token_request(
    request: &HttpRequest,
    payload: &mut dev::Payload,
) -> Result<TokenRequest, CgiError> {
    uri::check_len(request)?;
    let body = RequestBody::read(request, payload).await?;
    let object = body.object()?;
    let envelope = body.envelope_fields(&object)?;
    let buin = envelope.buin.ok_or(Error::Denied(AuthError::WrongEnterprise))?;
    let encrypt = envelope.encrypt;
    let app_context =
        authenticate::authenticate_token_request(request, (buin, envelope.app_id), encrypt).await?;
    let message =
        authenticate::verify_key_proof::<_, CgiError>(request, app_context.envelope.open(encrypt))?;
    Ok(TokenRequest { app_context, message })
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

/// The value of a query parameter; `None` if the query has no such parameter.
fn query_value<'a>(query: &'a str, name: &str) -> Result<Option<Cow<'a, str>>, CgiError> {
    wire::query_value(query, name).map_err(|error| CgiError::malformed("query", &error))
}
