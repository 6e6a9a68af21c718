//! The extractors of this API. Each one checks the caller and reads the message.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::pin::Pin;

use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpRequest, dev};

use super::base_request::{BaseRequest, CgiSessionResponse, SESSION_ID};
use super::error::CgiError;
use super::message::RequestBody;
use super::render::{to_json, to_version_json};
use crate::domain::{IdempotencyKey, MessageForm, Permission, SessionId};
use crate::http::auth::bearer::{self, RepeatedHeader};
use crate::http::auth::sealed_texts::{self, SealedFault};
use crate::http::auth::{authenticate, caller_body};
use crate::http::body::budget::BytesInFlight;
use crate::http::middleware::response_budget;
use crate::http::shared::permission::RequiredPermission;
use crate::http::shared::{conditions, idempotency};
use crate::http::uri;
use crate::service::{AuthError, CachedSession, Caller, Credential, WriteOptions, WriteOutcome};
use crate::wire::{self, Errcode, FieldError, JsonObject, OpenError, Opened, SealedFingerprint};

/// A `POST` of an app with the permission `N`, with its message.
pub(super) struct PostRequest<N> {
    base: BaseRequest,
    message: PostMessage,
    needs: PhantomData<N>,
    /// The memory of the body, until the request ends.
    _in_flight: Option<BytesInFlight>,
}

/// The message of a `POST`.
enum PostMessage {
    /// The bare body.
    Plain(Bytes),
    /// The content of the envelope. Whether the envelope could be opened is not known yet.
    Sealed {
        opened: Opened,
        /// The length of the sealed text.
        sealed_len: usize,
        /// Known if the server refuses a text that was accepted before.
        fingerprint: Option<SealedFingerprint>,
    },
}

/// A `GET` about a session, of an app with the permission `N`.
pub(super) struct GetRequest<N> {
    base: BaseRequest,
    session_id: SessionId,
    needs: PhantomData<N>,
}

impl<N> PostRequest<N> {
    pub(super) fn caller(&self) -> &Caller {
        &self.base.caller
    }

    /// The message, of which `fields` are kept. A handler calls this once, before anything else: only
    /// here it turns out whether the envelope could be opened. If the message names a session, the
    /// request context knows it then.
    pub(super) async fn object(&self, fields: &[&str]) -> Result<JsonObject<'_>, CgiError> {
        let object = self.open(fields).await?;
        if let Ok(Some(text)) = object.text(SESSION_ID) {
            self.base.named_session(Some(text)).ok();
        }
        Ok(object)
    }

    async fn open(&self, fields: &[&str]) -> Result<JsonObject<'_>, CgiError> {
        let (opened, sealed_len, fingerprint) = match &self.message {
            PostMessage::Plain(body) => {
                let error = |error| CgiError::malformed("body", &error);
                return JsonObject::parse(body, fields).map_err(error);
            }
            PostMessage::Sealed { opened, sealed_len, fingerprint } => {
                (opened, *sealed_len, *fingerprint)
            }
        };
        let request = &self.base.request;
        let fault = match (opened.object(fields), fingerprint) {
            (Err(OpenError), _) => SealedFault::Unopened,
            (Ok(_), Some(text)) if !sealed_texts::remember_write(request, text)? => {
                SealedFault::Replayed
            }
            (Ok(object), _) => return Ok(object),
        };
        let caller = &self.base.caller;
        let recorded = sealed_texts::record_fault(request, caller.app(), fault);
        sealed_texts::wait_to_refuse(caller.authenticated_at(), sealed_len).await;
        recorded?;
        Err(OpenError.into())
    }

    /// The session that the message names.
    pub(super) fn session_id(&self, message: &JsonObject<'_>) -> Result<SessionId, CgiError> {
        let wrong = |error: FieldError| {
            CgiError::new(Errcode::SessionIdInvalid, error.to_string())
                .with_sealed_errmsg(error.without_value())
        };
        self.base.named_session(message.text(SESSION_ID).map_err(wrong)?)
    }

    /// The options of a write: the idempotency key, if the request has one. The message decides
    /// whether two requests are the same, not its envelope, which is new in every attempt.
    pub(super) fn write_options(&self) -> Result<WriteOptions, CgiError> {
        let request = &self.base.request;
        let wrong = |reason: &str| {
            // The key is in a header, not in the message.
            let errmsg = format!("{}: {reason}", idempotency::HEADER_NAME);
            CgiError::without_values(Errcode::BadRequest, errmsg)
        };
        let Some(key) = idempotency::find(request.headers()).map_err(wrong)? else {
            return Ok(WriteOptions::default());
        };
        let message = match &self.message {
            PostMessage::Plain(body) => body,
            PostMessage::Sealed { opened, .. } => opened.text()?.as_bytes(),
        };
        let digest = idempotency::digest(&[request.method().as_str(), request.path()], message);
        let key = IdempotencyKey::new(key, digest).map_err(|error| wrong(&error.to_string()))?;
        Ok(WriteOptions { idempotency_key: Some(key), dry_run: false })
    }

    /// The response to a write. Nothing of a sealed message is echoed in an error.
    pub(super) fn respond(
        &self,
        result: Result<WriteOutcome, CgiError>,
    ) -> Result<CgiSessionResponse, CgiError> {
        match result {
            Ok(outcome) => {
                let response = match &outcome.session {
                    Some(session) => self.base.respond(session.id, session.json(to_json)),
                    None => self.base.respond(outcome.session_id, &to_version_json(&outcome)),
                };
                Ok(if outcome.replayed { response.mark_replayed() } else { response })
            }
            Err(error) if self.base.sealed.is_some() => Err(error.without_echo()),
            Err(error) => Err(error),
        }
    }
}

impl<N> GetRequest<N> {
    pub(super) fn caller(&self) -> &Caller {
        &self.base.caller
    }

    /// The session that the query names.
    pub(super) fn session_id(&self) -> SessionId {
        self.session_id
    }

    /// A response whose result is a session.
    pub(super) fn respond(&self, session: &CachedSession) -> CgiSessionResponse {
        self.base.respond(session.id, session.json(to_json))
    }
}

async fn authenticate<N: RequiredPermission>(request: &HttpRequest) -> Result<Caller, CgiError> {
    let token = credential(request)?;
    let caller = authenticate::authenticate(request, &token).await?;
    // This API has no endpoint for administrators: `sessions:admin` replaces no other permission.
    if let Some(least) = N::ANY_OF.first() {
        caller.require(*least)?;
        if *least == Permission::SessionsWrite {
            response_budget::check_room(request, caller.app().buin)?;
        }
    }
    Ok(caller)
}

async fn read_post_request<N: RequiredPermission>(
    request: HttpRequest,
    payload: &mut dev::Payload,
) -> Result<PostRequest<N>, CgiError> {
    uri::check_len(&request)?;
    let authenticated = authenticate::<N>(&request).await;
    let (caller, body) = caller_body::read(&request, payload, authenticated).await?;
    refuse_conditions(&request)?;
    let body = RequestBody::new(&request, body);
    let object = body.object()?;
    if caller.credential() == Credential::ApiKey && !object.has("encrypt") {
        caller.require_form(MessageForm::Plain)?;
        let base = BaseRequest { caller, sealed: None, request };
        drop(object);
        let (bytes, in_flight) = body.into_parts();
        let message = PostMessage::Plain(bytes);
        return Ok(PostRequest { base, message, needs: PhantomData, _in_flight: in_flight });
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
    caller.require_form(MessageForm::Sealed)?;
    sealed_texts::check(&request, app)?;
    let fingerprint = sealed_texts::write_fingerprint(&request, envelope.encrypt)?;
    let (opened, key) = caller.open(envelope.encrypt);
    let sealed_len = envelope.encrypt.len();
    let message = PostMessage::Sealed { opened, sealed_len, fingerprint };
    drop(object);
    let (_, in_flight) = body.into_parts();
    let base = BaseRequest { caller, sealed: Some(key), request };
    Ok(PostRequest { base, message, needs: PhantomData, _in_flight: in_flight })
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
            let (sealed, form) = match caller.credential() {
                Credential::Token => (Some(caller.key()), MessageForm::Sealed),
                Credential::ApiKey => (None, MessageForm::Plain),
            };
            caller.require_form(form)?;
            refuse_conditions(&request)?;
            let base = BaseRequest { caller, sealed, request };
            let session_id = {
                let text = query_value(base.request.query_string(), SESSION_ID)?;
                base.named_session(text.as_deref())?
            };
            Ok(Self { base, session_id, needs: PhantomData })
        })
    }
}

/// Refuses conditions in headers: no response of this API has an `ETag` or a date, and an update has the
/// field `version`. A condition is refused before the message is opened, so the refusal tells nothing
/// about a sealed message.
pub(super) fn refuse_conditions(request: &HttpRequest) -> Result<(), CgiError> {
    match conditions::find(request.headers()) {
        None => Ok(()),
        Some(name) => {
            let errmsg = format!("{name}: is not supported, use the field version of an update");
            Err(CgiError::without_values(Errcode::BadRequest, errmsg))
        }
    }
}

/// The access token or API key of a request: in the query, else in the header. A gateway may add a
/// header of its own, so the query decides if both are there.
fn credential(request: &HttpRequest) -> Result<Cow<'_, str>, CgiError> {
    let token = query_value(request.query_string(), "accessToken")?.unwrap_or_default();
    if !token.is_empty() {
        return Ok(token);
    }
    let twice = |RepeatedHeader| {
        CgiError::new(Errcode::BadRequest, "Authorization: appears more than once")
    };
    Ok(bearer::find(request.headers()).map_err(twice)?.unwrap_or_default().into())
}

/// The value of a query parameter; `None` if the query has no such parameter.
fn query_value<'a>(query: &'a str, name: &str) -> Result<Option<Cow<'a, str>>, CgiError> {
    wire::query_value(query, name).map_err(|error| CgiError::malformed("query", &error))
}
