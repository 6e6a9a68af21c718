//! `/cgi/session/…`: create, get, update.

use actix_web::{HttpResponse, web};

use super::call::{Asked, Call};
use super::fault::Fault;
use super::render::TYPE;
use crate::domain::{
    Account, Action, Attributes, Expected, NewSession, Request, Title, Update, Version,
};
use crate::http::shared::permission::{Reads, Writes};
use crate::service::{Sessions, WriteOptions};
use crate::wire::{Errcode, Object};

pub(super) async fn create(
    sessions: web::Data<Sessions>,
    call: Call<Writes>,
) -> Result<HttpResponse, Fault> {
    let new = new_session(&call.object()?)?;
    let session = sessions.create(call.caller(), new, &WriteOptions::default()).await?.session;
    Ok(call.answer(&session))
}

pub(super) async fn get(
    sessions: web::Data<Sessions>,
    asked: Asked<Reads>,
) -> Result<HttpResponse, Fault> {
    let id = asked.session_id()?;
    let session = sessions.get(asked.caller(), id).await?;
    Ok(asked.answer(&session))
}

pub(super) async fn update(
    sessions: web::Data<Sessions>,
    call: Call<Writes>,
) -> Result<HttpResponse, Fault> {
    let body = call.object()?;
    let id = call.session_id(&body)?;
    let request = wanted_update(&body)?;
    let session =
        sessions.change(call.caller(), id, request, &WriteOptions::default()).await?.session;
    Ok(call.answer(&session))
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
