//! `/cgi/session/…`: create, get, update.

use actix_web::{HttpResponse, web};
use serde::Serialize;

use super::call::{Asked, Call, query_value};
use super::fault::Fault;
use crate::domain::{
    Account, Action, Attributes, Expected, Invalid, NewSession, Request, Session, SessionId, Title,
    Update, Version,
};
use crate::http::shared::permission::{Reads, Writes};
use crate::http::shared::render::{as_text, as_texts};
use crate::service::{Sessions, Terms};
use crate::wire::{Errcode, Object};

/// The one type of session that there is.
const TYPE: &str = "multi";

pub(super) async fn create(
    sessions: web::Data<Sessions>,
    call: Call<Writes>,
) -> Result<HttpResponse, Fault> {
    let new = new_session(&call.object()?)?;
    let session = sessions.create(call.caller(), new, &Terms::default()).await?.session;
    call.about(session.id);
    Ok(call.answer(session.rendered(rendered)))
}

pub(super) async fn get(
    sessions: web::Data<Sessions>,
    asked: Asked<Reads>,
) -> Result<HttpResponse, Fault> {
    let id = session_id(query_value(asked.query(), "sessionId")?.as_deref())?;
    asked.about(id);
    let session = sessions.get(asked.caller(), id).await?;
    Ok(asked.answer(session.rendered(rendered)))
}

pub(super) async fn update(
    sessions: web::Data<Sessions>,
    call: Call<Writes>,
) -> Result<HttpResponse, Fault> {
    let body = call.object()?;
    let id = body_session_id(&body)?;
    call.about(id);
    let request = wanted_update(&body)?;
    let session = sessions.change(call.caller(), id, request, &Terms::default()).await?.session;
    Ok(call.answer(session.rendered(rendered)))
}

fn new_session(body: &Object<'_>) -> Result<NewSession, Fault> {
    let title = title(body)?.ok_or_else(|| Fault::missing(Errcode::BadRequest, "title"))?;
    let creator = account(body, "creator")?;
    if let Some(other) = body.text("type")?.filter(|kind| *kind != TYPE) {
        let start: String = other.chars().take(64).collect();
        return Err(Fault::new(
            Errcode::BadRequest,
            format!("type: must be \"{TYPE}\", got {start:?}"),
        ));
    }
    let members = accounts(body, "member")?;
    Ok(NewSession { title, creator, members, attributes: Attributes::default(), reason: None })
}

fn wanted_update(body: &Object<'_>) -> Result<Request, Fault> {
    let operator = account(body, "opUser")?;
    let title = title(body)?;
    let add = accounts(body, "addMember")?;
    let remove = accounts(body, "delMember")?;
    let expected = version(body)?.map(Expected::from);
    let mut update = Update::of_members(add, remove)?;
    update.title = title;
    Ok(Request { expected, ..Request::by(operator, Action::Update(update)) })
}

fn version(body: &Object<'_>) -> Result<Option<Version>, Fault> {
    let Some(integer) = body.integer("version")? else { return Ok(None) };
    let Some(number) = integer.to_i64() else {
        let errmsg = format!("version: at most {}, got {integer}", i64::MAX);
        return Err(Fault::new(Errcode::BadRequest, errmsg));
    };
    Version::new(number).map(Some).map_err(|why| Fault::invalid("version", &why))
}

fn title(body: &Object<'_>) -> Result<Option<Title>, Fault> {
    let title = body.text("title")?.map(Title::new).transpose();
    title.map_err(|why| Fault::invalid("title", &why))
}

/// An account that must be there.
fn account(body: &Object<'_>, field: &str) -> Result<Account, Fault> {
    let text = body.account(field)?.ok_or_else(|| Fault::missing(Errcode::BadRequest, field))?;
    Account::new(&text).map_err(|why| Fault::invalid(field, &why))
}

fn accounts(body: &Object<'_>, field: &str) -> Result<Vec<Account>, Fault> {
    body.accounts(field, |place, text| {
        Account::new(text).map_err(|why| Fault::invalid(format_args!("{field}[{place}]"), &why))
    })
}

fn body_session_id(body: &Object<'_>) -> Result<SessionId, Fault> {
    let text = body
        .text("sessionId")
        .map_err(|why| Fault::new(Errcode::SessionIdInvalid, why.to_string()))?;
    session_id(text)
}

fn session_id(text: Option<&str>) -> Result<SessionId, Fault> {
    let text = text
        .filter(|text| !text.is_empty())
        .ok_or_else(|| Fault::missing(Errcode::SessionIdMissing, "sessionId"))?;
    text.parse()
        .map_err(|why: Invalid| Fault::new(Errcode::SessionIdInvalid, format!("sessionId: {why}")))
}

/// A session as the JSON of every answer.
fn rendered(session: &Session) -> Vec<u8> {
    // Text and numbers: nothing in there can fail to be JSON.
    serde_json::to_vec(&Answer::from(session)).unwrap_or_default()
}

/// A session as every answer has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
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

impl<'a> From<&'a Session> for Answer<'a> {
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
