//! The part of a request that all extractors of this API have, and the responses about a session.
//!
//! The request context gets the session here only: when a message or a query that names it is read, and
//! when a response is made. A handler has no other way to the one or the other.

use actix_web::http::header::HeaderValue;
use actix_web::{HttpRequest, HttpResponse};

use super::error::CgiError;
use super::render::{plain_response, sealed_response};
use crate::domain::{Invalid, SessionId};
use crate::http::endpoint::IntoHttpResponse;
use crate::http::middleware::request_context::RequestContext;
use crate::http::shared::idempotency;
use crate::service::{Caller, KeyGeneration};
use crate::wire::Errcode;

/// The name of the field and of the parameter that name a session.
pub(super) const SESSION_ID: &str = "sessionId";

/// A request of an authenticated caller.
pub(super) struct BaseRequest {
    pub(super) caller: Caller,
    /// The key that seals the response: the one that the request used. `None`: a plain response.
    pub(super) sealed: Option<KeyGeneration>,
    pub(super) request: HttpRequest,
}

/// A response about a session, which the request context knows. Its field is private,
/// so a handler gets one from [`BaseRequest::respond`] only.
pub(super) struct CgiSessionResponse(HttpResponse);

impl BaseRequest {
    /// The session that a text names. The request context knows it then.
    pub(super) fn named_session(&self, text: Option<&str>) -> Result<SessionId, CgiError> {
        let text = text
            .filter(|text| !text.is_empty())
            .ok_or_else(|| CgiError::missing(Errcode::SessionIdMissing, SESSION_ID))?;
        let wrong =
            |error: Invalid| CgiError::invalid(Errcode::SessionIdInvalid, SESSION_ID, &error);
        let id = text.parse().map_err(wrong)?;
        self.record_session(id, |_| ());
        Ok(id)
    }

    /// A response with this JSON about a session. A new session had no id before.
    pub(super) fn respond(&self, id: SessionId, json: &[u8]) -> CgiSessionResponse {
        self.record_session(id, RequestContext::mark_succeeded);
        CgiSessionResponse(match self.sealed {
            Some(key) => sealed_response(self.caller.envelope(key), json),
            None => plain_response(json),
        })
    }

    /// The only place of this API at which the request context gets a session. `and` records more.
    fn record_session(&self, id: SessionId, and: impl FnOnce(&RequestContext)) {
        RequestContext::with(&self.request, |context| {
            context.set_session(id);
            and(context);
        });
    }
}

impl CgiSessionResponse {
    /// Says that the response repeats an earlier one.
    pub(super) fn mark_replayed(mut self) -> Self {
        self.0.headers_mut().insert(idempotency::REPLAYED, HeaderValue::from_static("true"));
        self
    }
}

impl IntoHttpResponse for Result<CgiSessionResponse, CgiError> {
    fn into_response(self) -> HttpResponse {
        self.map(|CgiSessionResponse(response)| response).into_response()
    }
}
