//! `/v1/sessions/{sessionId}/members`: the whole list, and one of them.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;

use super::state::{By, Operator};
use super::{OfMembers, Wish, change};
use crate::domain::{Action, Update};
use crate::http::shared::permission::Writes;
use crate::http::v1::extract::authorized::Authorised;
use crate::http::v1::extract::json::Json;
use crate::http::v1::extract::path::{AtMember, AtSession};
use crate::http::v1::extract::text::{AccountText, Acting, ReasonText, accounts};
use crate::http::v1::extract::write::Write;
use crate::http::v1::problem::{Code, Problem, Problems};
use crate::http::v1::render::answer::Written;
use crate::service::Sessions;

type Replaced = Authorised<Writes, (AtSession, Write, Json<Members>)>;
type Added = Authorised<Writes, (AtSession, AtMember, Write, Json<Operator>)>;
type Removed = Authorised<Writes, (AtSession, AtMember, Write<By>)>;

/// What stands in the path.
const OF_ONE: [(&str, &str); 2] = [("member", "account"), ("delMember", "account")];

/// The new list of members.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(as = WantedMembers, example = json!({
    "operator": "alice", "reason": "the new team", "member": ["alice", "bob", "dave"]
}))]
pub(crate) struct Members {
    /// The account that acts.
    operator: AccountText,
    reason: Option<ReasonText>,
    /// All members, owner included. Remaining members keep their places; new ones follow.
    member: Vec<AccountText>,
}

impl TryFrom<Members> for Wish {
    type Error = Problem;

    fn try_from(wanted: Members) -> Result<Self, Problem> {
        let acting = Acting::read(Code::InvalidField, &wanted.operator, wanted.reason.as_ref())?;
        let action = Action::Members(accounts("member", &wanted.member)?);
        Ok(Self { acting, action })
    }
}

/// Replace the members
///
/// Additions and removals make one version. If the owner is removed, the longest-standing member
/// becomes the owner.
#[utoipa::path(
    put,
    path = "/v1/sessions/{sessionId}/members",
    operation_id = "replaceMembers",
    tag = "members",
    params(Replaced),
    request_body = Members,
    responses(Written, Problems<(Replaced, OfMembers)>)
)]
pub(crate) async fn replace(
    sessions: web::Data<Sessions>,
    asked: Replaced,
) -> Result<HttpResponse, Problem> {
    let (AtSession(id), write, Json(wanted)) = asked.parts;
    let changed = change(&sessions, &asked.caller, id, &write, wanted.try_into()?).await;
    changed.map_err(|problem| problem.about(&[("delMember", "member")]))
}

/// Add a member
///
/// If the account is a member already, nothing changes.
#[utoipa::path(
    put,
    path = "/v1/sessions/{sessionId}/members/{account}",
    operation_id = "addMember",
    tag = "members",
    params(Added),
    request_body = Operator,
    responses(Written, Problems<(Added, OfMembers)>)
)]
pub(crate) async fn add(
    sessions: web::Data<Sessions>,
    asked: Added,
) -> Result<HttpResponse, Problem> {
    let (AtSession(id), AtMember(account), write, Json(by)) = asked.parts;
    let action = Action::Update(Update::of_members(vec![account], Vec::new())?);
    let wish = Wish { acting: by.try_into()?, action };
    let changed = change(&sessions, &asked.caller, id, &write, wish).await;
    changed.map_err(|problem| problem.about(&OF_ONE))
}

/// Remove a member
///
/// If the account is not a member, nothing changes. Only the owner may remove other members, unless
/// `removeMembers` of `/v1/limits` is `member`. If the owner is removed, the longest-standing
/// member becomes the owner.
#[utoipa::path(
    delete,
    path = "/v1/sessions/{sessionId}/members/{account}",
    operation_id = "removeMember",
    tag = "members",
    params(Removed),
    responses(Written, Problems<(Removed, OfMembers)>)
)]
pub(crate) async fn remove(
    sessions: web::Data<Sessions>,
    asked: Removed,
) -> Result<HttpResponse, Problem> {
    let (AtSession(id), AtMember(account), write) = asked.parts;
    let action = Action::Update(Update::of_members(Vec::new(), vec![account])?);
    let wish = Wish { acting: (&write.query).try_into()?, action };
    let changed = change(&sessions, &asked.caller, id, &write, wish).await;
    changed.map_err(|problem| problem.about(&OF_ONE))
}
