//! Responses with a result, plain or in an envelope, and the JSON of a session.

use actix_web::HttpResponse;
use actix_web::http::header::ContentType;
use serde::Serialize;

use crate::domain::{Account, Session, SessionId};
use crate::http::shared::render::{as_text, as_texts};
use crate::service::WriteOutcome;
use crate::wire::Envelope;

/// The only type of a session.
pub(super) const TYPE: &str = "multi";

/// The start of every response with a result.
const OK: &str = r#"{"errcode":0,"errmsg":"ok","#;

/// A response in an envelope.
pub(super) fn sealed_response(envelope: &Envelope, json: &[u8]) -> HttpResponse {
    const FIELD: &str = r#""encrypt":""#;
    // Sealing adds at most 139 bytes; base64 makes 4 characters of 3 bytes.
    let size = (json.len() + 144) / 3 * 4 + OK.len() + FIELD.len() + 2;
    let mut body = String::with_capacity(size);
    body.push_str(OK);
    body.push_str(FIELD);
    envelope.seal_outgoing_into(&mut body, json);
    body.push_str(r#""}"#);
    HttpResponse::Ok().content_type(ContentType::json()).body(body)
}

/// A response with the fields of `json` beside `errcode` and `errmsg`. `json` must be an object
/// with at least one field.
pub(super) fn plain_response(json: &[u8]) -> HttpResponse {
    let fields = json.strip_prefix(b"{").unwrap_or(json);
    let body = [OK.as_bytes(), fields].concat();
    HttpResponse::Ok().content_type(ContentType::json()).body(body)
}

/// The JSON of a session, the same in every response.
pub(super) fn to_json(session: &Session) -> Vec<u8> {
    // Text and numbers always have a JSON form.
    serde_json::to_vec(&CgiSession::from(session)).unwrap_or_default()
}

/// The JSON of a write for an app that may not read the session.
pub(super) fn to_version_json(outcome: &WriteOutcome) -> Vec<u8> {
    let version = CgiVersion { session_id: outcome.session_id, version: outcome.version.get() };
    serde_json::to_vec(&version).unwrap_or_default()
}

/// The fields of a session that an app which only writes gets.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CgiVersion {
    #[serde(serialize_with = "as_text")]
    session_id: SessionId,
    version: i64,
}

/// The fields of a session in a response.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CgiSession<'a> {
    #[serde(serialize_with = "as_text")]
    session_id: SessionId,
    title: &'a str,
    owner: &'a str,
    version: i64,
    r#type: &'static str,
    #[serde(serialize_with = "as_texts")]
    member: &'a [Account],
    /// No description has this field, but a client in C# throws an exception without it.
    last_msg_id: i64,
    /// The Unix time of the last change, in seconds. The same client needs it.
    active_time: i64,
}

impl<'a> From<&'a Session> for CgiSession<'a> {
    fn from(session: &'a Session) -> Self {
        Self {
            session_id: session.id,
            title: session.title.as_str(),
            owner: session.owner.as_str(),
            version: session.version.get(),
            r#type: TYPE,
            member: &session.members,
            last_msg_id: 0,
            active_time: session.updated_at.timestamp(),
        }
    }
}
