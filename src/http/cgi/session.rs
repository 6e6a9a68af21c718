//! `/cgi/session/…`: create, get, update.

use actix_web::web;

use super::base_request::CgiSessionResponse;
use super::call::{GetRequest, PostRequest};
use super::error::CgiError;
use super::render::TYPE;
use crate::domain::{
    Account, Action, Attributes, NewSession, Request, Title, Update, Version, VersionPrecondition,
};
use crate::http::shared::permission::{CanRead, CanWrite};
use crate::service::{Sessions, WriteOutcome};
use crate::wire::{Errcode, JsonObject, TooManyAccounts};

/// The fields of the messages.
const CREATE_FIELDS: [&str; 4] = ["title", "creator", "type", "member"];
const UPDATE_FIELDS: [&str; 6] =
    ["sessionId", "opUser", "title", "addMember", "delMember", "version"];

pub(super) async fn create(
    sessions: web::Data<Sessions>,
    post: PostRequest<CanWrite>,
) -> Result<CgiSessionResponse, CgiError> {
    let created = create_session(&sessions, &post).await;
    post.respond(created)
}

pub(super) async fn get(
    sessions: web::Data<Sessions>,
    request: GetRequest<CanRead>,
) -> Result<CgiSessionResponse, CgiError> {
    let session = sessions.get(request.caller(), request.session_id()).await?;
    Ok(request.respond(&session))
}

pub(super) async fn update(
    sessions: web::Data<Sessions>,
    post: PostRequest<CanWrite>,
) -> Result<CgiSessionResponse, CgiError> {
    let updated = update_session(&sessions, &post).await;
    post.respond(updated)
}

async fn create_session(
    sessions: &Sessions,
    post: &PostRequest<CanWrite>,
) -> Result<WriteOutcome, CgiError> {
    let max_members = sessions.rules().max_members;
    // The parsed message is dropped here: it must not wait for the database.
    let new = parse_create(&post.object(&CREATE_FIELDS).await?, max_members)?;
    let options = post.write_options()?;
    Ok(sessions.create(post.caller(), new, &options).await?)
}

async fn update_session(
    sessions: &Sessions,
    post: &PostRequest<CanWrite>,
) -> Result<WriteOutcome, CgiError> {
    let max_members = sessions.rules().max_members;
    let (id, request) = {
        // The parsed message is dropped here: it must not wait for the database.
        let message = post.object(&UPDATE_FIELDS).await?;
        (post.session_id(&message)?, parse_update(&message, max_members)?)
    };
    let options = post.write_options()?;
    Ok(sessions.update(post.caller(), id, request, &options).await?)
}

fn parse_create(body: &JsonObject<'_>, max_members: usize) -> Result<NewSession, CgiError> {
    let title = title(body)?.ok_or_else(|| CgiError::missing(Errcode::BadRequest, "title"))?;
    let creator = account(body, "creator")?;
    if let Some(other) = body.text("type")?.filter(|kind| *kind != TYPE) {
        let start: String = other.chars().take(64).collect();
        let errmsg = format!("type: must be \"{TYPE}\", got {start:?}");
        return Err(CgiError::new(Errcode::BadRequest, errmsg)
            .with_sealed_errmsg(format!("type: must be \"{TYPE}\"")));
    }
    let members = accounts(body, "member", max_members)?;
    Ok(NewSession { title, creator, members, attributes: Attributes::default(), reason: None })
}

fn parse_update(body: &JsonObject<'_>, max_members: usize) -> Result<Request, CgiError> {
    let operator = account(body, "opUser")?;
    let title = title(body)?;
    let add = accounts(body, "addMember", max_members)?;
    let remove = accounts(body, "delMember", max_members)?;
    let expected = version(body)?.map(VersionPrecondition::from);
    let mut update = Update::for_members(add, remove)?;
    update.title = title;
    Ok(Request { precondition: expected, ..Request::for_member(operator, Action::Update(update)) })
}

fn version(body: &JsonObject<'_>) -> Result<Option<Version>, CgiError> {
    let Some(integer) = body.integer("version")? else { return Ok(None) };
    let Some(number) = integer.to_i64() else {
        let errmsg = format!("version: at most {}, got {integer}", i64::MAX);
        return Err(CgiError::new(Errcode::BadRequest, errmsg)
            .with_sealed_errmsg(format!("version: at most {}", i64::MAX)));
    };
    Version::new(number)
        .map(Some)
        .map_err(|error| CgiError::invalid(Errcode::BadRequest, "version", &error))
}

fn title(body: &JsonObject<'_>) -> Result<Option<Title>, CgiError> {
    let title = body.text("title")?.map(Title::new).transpose();
    title.map_err(|error| CgiError::invalid(Errcode::BadRequest, "title", &error))
}

/// A required account.
fn account(body: &JsonObject<'_>, field: &'static str) -> Result<Account, CgiError> {
    let text = body.account(field)?.ok_or_else(|| CgiError::missing(Errcode::BadRequest, field))?;
    Account::new(&text).map_err(|error| CgiError::invalid(Errcode::BadRequest, field, &error))
}

fn accounts(
    body: &JsonObject<'_>,
    field: &str,
    max_members: usize,
) -> Result<Vec<Account>, CgiError> {
    let convert = |index: usize, text: &str| {
        Account::new(text).map_err(|error| {
            CgiError::invalid(Errcode::BadRequest, format_args!("{field}[{index}]"), &error)
                .with_sealed_errmsg(format!("{field}: {}", error.without_value()))
        })
    };
    let too_many = |error: TooManyAccounts| {
        CgiError::new(Errcode::TooManyMembers, format!("{field}: {error}"))
            .with_sealed_errmsg(format!("{field}: at most {} accounts", error.max))
    };
    body.accounts(field, max_members, convert, too_many)
}
