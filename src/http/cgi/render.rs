//! Answers with a result: plain, or in an envelope; and a session as each of them has it.

use actix_web::HttpResponse;
use actix_web::http::header::ContentType;
use serde::Serialize;

use crate::domain::{Account, Session, SessionId};
use crate::http::shared::render::{as_text, as_texts};
use crate::wire::Envelope;

/// The one type of session that there is.
pub(super) const TYPE: &str = "multi";

/// How every answer with a result begins.
const OK: &str = r#"{"errcode":0,"errmsg":"ok","#;

/// An answer in an envelope.
pub(super) fn sealed_response(envelope: &Envelope, json: &[u8]) -> HttpResponse {
    const FIELD: &str = r#""encrypt":""#;
    // What sealing adds, and then base64.
    let size = (json.len() + 128) / 3 * 4 + OK.len() + FIELD.len() + 2;
    let mut body = String::with_capacity(size);
    body.push_str(OK);
    body.push_str(FIELD);
    envelope.seal_into(&mut body, json);
    body.push_str(r#""}"#);
    HttpResponse::Ok().content_type(ContentType::json()).body(body)
}

/// An answer with the fields of `json`, an object that is not empty, beside `errcode` and `errmsg`.
pub(super) fn plain_response(json: &[u8]) -> HttpResponse {
    let fields = json.strip_prefix(b"{").unwrap_or(json);
    let body = [OK.as_bytes(), fields].concat();
    HttpResponse::Ok().content_type(ContentType::json()).body(body)
}

/// A session as the JSON of every answer.
pub(super) fn to_json(session: &Session) -> Vec<u8> {
    // Text and numbers: nothing in there can fail to be JSON.
    serde_json::to_vec(&CgiSession::from(session)).unwrap_or_default()
}

/// A session as every answer has it.
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
    /// In no description, but a client in C# throws unless it is there.
    last_msg_id: i64,
    /// Like the one above; the Unix second of the last change.
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
