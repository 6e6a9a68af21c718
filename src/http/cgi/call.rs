//! Who calls, and what they say: the extractors of the calls that need an access token.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::pin::Pin;

use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpRequest, HttpResponse, dev};

use super::fault::Fault;
use super::message::Body;
use super::render::{plain, rendered, sealed};
use crate::domain::{Invalid, SessionId};
use crate::http::auth::authenticate;
use crate::http::middleware::request_context::Noted;
use crate::http::shared::permission::Needs;
use crate::http::uri;
use crate::service::{AppContext, AuthError, CachedSession, Caller, Credential, Error};
use crate::wire::{self, Errcode, FieldError, Object};

/// A `POST` by an app that may do it, its message opened.
pub(super) struct Call<N> {
    asked: Asked<N>,
    message: Bytes,
}

/// A `GET` by an app that may do it.
pub(super) struct Asked<N> {
    caller: Caller,
    /// Whether the answer is sealed.
    sealed: bool,
    request: HttpRequest,
    needs: PhantomData<N>,
}

impl<N> Call<N> {
    pub(super) fn caller(&self) -> &Caller {
        &self.asked.caller
    }

    /// The message: what was sealed, or the bare body.
    pub(super) fn object(&self) -> Result<Object<'_>, Fault> {
        let place = if self.asked.sealed { "encrypt" } else { "body" };
        Object::parse(&self.message).map_err(|why| Fault::malformed(place, &why))
    }

    /// The session that the message names. The request's context names it from here on.
    pub(super) fn session_id(&self, message: &Object<'_>) -> Result<SessionId, Fault> {
        let wrong = |why: FieldError| Fault::new(Errcode::SessionIdInvalid, why.to_string());
        self.asked.named(message.text("sessionId").map_err(wrong)?)
    }

    /// An answer whose result is a session.
    pub(super) fn answer(&self, session: &CachedSession) -> HttpResponse {
        self.asked.answer(session)
    }
}

impl<N> Asked<N> {
    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The session that the query names. The request's context names it from here on.
    pub(super) fn session_id(&self) -> Result<SessionId, Fault> {
        self.named(query_value(self.request.query_string(), "sessionId")?.as_deref())
    }

    fn named(&self, text: Option<&str>) -> Result<SessionId, Fault> {
        let text = text
            .filter(|text| !text.is_empty())
            .ok_or_else(|| Fault::missing(Errcode::SessionIdMissing, "sessionId"))?;
        let wrong =
            |why: Invalid| Fault::new(Errcode::SessionIdInvalid, format!("sessionId: {why}"));
        let id = text.parse().map_err(wrong)?;
        Noted::on(&self.request, |context| context.is_about(id));
        Ok(id)
    }

    /// An answer whose result is a session. A new session has its id only now.
    pub(super) fn answer(&self, session: &CachedSession) -> HttpResponse {
        let json = session.json(rendered);
        let answer = if self.sealed {
            sealed(&self.caller.app_context().envelope, json)
        } else {
            plain(json)
        };
        Noted::on(&self.request, |context| {
            context.is_about(session.id);
            context.succeeded();
        });
        answer
    }
}

async fn admit<N: Needs>(request: &HttpRequest) -> Result<Caller, Fault> {
    let token = query_value(request.query_string(), "accessToken")?.unwrap_or_default();
    let caller = authenticate::admit(request, &token).await?;
    // The right to administrate has no calls in this API: it stands for no other permission.
    if let Some(least) = N::ONE_OF.first() {
        caller.require(*least)?;
    }
    Ok(caller)
}

async fn call<N: Needs>(
    request: HttpRequest,
    payload: &mut dev::Payload,
) -> Result<Call<N>, Fault> {
    uri::check(&request)?;
    // The body first: an answer to a request that is still being sent may never be read.
    let body = Body::read(&request, payload).await?;
    let caller = admit::<N>(&request).await?;
    let outer = body.object()?;
    if caller.credential() == Credential::ApiKey && !outer.has("encrypt") {
        let asked = Asked { caller, sealed: false, request, needs: PhantomData };
        drop(outer);
        return Ok(Call { asked, message: body.into_bytes() });
    }
    if !outer.has("encrypt") {
        return Err(Fault::missing(Errcode::EncryptMissing, "encrypt"));
    }
    let envelope = body.sealed(&outer)?;
    let app = caller.app();
    if envelope.buin != Some(app.buin.get()) {
        return Err(AuthError::WrongEnterprise.into());
    }
    if envelope.app_id != app.app_id.as_str() {
        let errmsg = "appId: not the app of the access token";
        return Err(Fault::new(Errcode::InvalidAppId, errmsg));
    }
    let message = caller.app_context().envelope.open(envelope.encrypt)?;
    let asked = Asked { caller, sealed: true, request, needs: PhantomData };
    Ok(Call { asked, message: message.into() })
}

impl<N: Needs> FromRequest for Call<N> {
    type Error = Fault;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Fault>>>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        let mut payload = payload.take();
        Box::pin(async move { call(request, &mut payload).await })
    }
}

impl<N: Needs> FromRequest for Asked<N> {
    type Error = Fault;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Fault>>>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            uri::check(&request)?;
            let caller = admit::<N>(&request).await?;
            let sealed = caller.credential() == Credential::Token;
            Ok(Self { caller, sealed, request, needs: PhantomData })
        })
    }
}

/// An app that asks for a token, and what it sealed.
pub(super) struct Application {
    pub(super) known: std::sync::Arc<AppContext>,
    pub(super) message: String,
}

async fn apply(request: &HttpRequest, payload: &mut dev::Payload) -> Result<Application, Fault> {
    uri::check(request)?;
    let body = Body::read(request, payload).await?;
    let outer = body.object()?;
    let envelope = body.sealed(&outer)?;
    let buin = envelope.buin.ok_or(Error::Denied(AuthError::WrongEnterprise))?;
    let encrypt = envelope.encrypt;
    let known = authenticate::applicant(request, (buin, envelope.app_id), encrypt).await?;
    let message = authenticate::has_key::<_, Fault>(request, known.envelope.open(encrypt))?;
    Ok(Application { known, message })
}

impl FromRequest for Application {
    type Error = Fault;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Fault>>>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        let mut payload = payload.take();
        Box::pin(async move { apply(&request, &mut payload).await })
    }
}

/// The value of a query parameter; `None` if it is not there.
fn query_value<'a>(query: &'a str, name: &str) -> Result<Option<Cow<'a, str>>, Fault> {
    wire::query_value(query, name).map_err(|why| Fault::malformed("query", &why))
}
