//! What is done to a session as a whole: dissolve, restore, revert.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{Changes, OfMembers, Wish, change};
use crate::domain::{Action, Version};
use crate::http::shared::permission::Writes;
use crate::http::v1::extract::authorized::Authorised;
use crate::http::v1::extract::json::Json;
use crate::http::v1::extract::number::VersionNumber;
use crate::http::v1::extract::path::AtSession;
use crate::http::v1::extract::text::{AccountText, Acting, ReasonText};
use crate::http::v1::extract::write::{Rehearses, Write};
use crate::http::v1::problem::{Code, Fails, Problem, Problems};
use crate::http::v1::render::answer::Written;
use crate::service::Sessions;

type Dissolved = Authorised<Writes, (AtSession, Write<By>)>;
type Restored = Authorised<Writes, (AtSession, Write, Json<Operator>)>;
type Reverted = Authorised<Writes, (AtSession, Write, Json<Back>)>;

/// Who acts, and why: where there is no body.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct By {
    /// The account that acts.
    #[param(inline)]
    operator: AccountText,
    /// The reason, for the history. Required when acting as administrator.
    #[param(inline)]
    reason: Option<ReasonText>,
    /// `true`: the response shows the result, but nothing is changed. An `Idempotency-Key` is
    /// ignored.
    #[serde(default)]
    #[param(default = false, example = true)]
    dry_run: bool,
}

/// The operator and the reason of a change.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({ "operator": "alice", "reason": "asked for by the team" }))]
pub(crate) struct Operator {
    /// The account that acts.
    operator: AccountText,
    reason: Option<ReasonText>,
}

/// What a session is to be again: the caller names none of it but the version.
const OF_THEN: [(&str, &str); 4] = [
    ("owner", "version"),
    ("member", "version"),
    ("delMember", "version"),
    ("attributes", "version"),
];

/// The version to revert to.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(as = Revert, example = json!({
    "operator": "alice", "reason": "that was a mistake", "version": 3
}))]
pub(crate) struct Back {
    /// The account that acts.
    operator: AccountText,
    reason: Option<ReasonText>,
    /// The version whose content the session gets.
    version: VersionNumber,
}

impl Rehearses for By {
    fn dry_run(&self) -> bool {
        self.dry_run
    }
}

impl TryFrom<&By> for Acting {
    type Error = Problem;

    fn try_from(by: &By) -> Result<Self, Problem> {
        Self::read(Code::InvalidParameter, &by.operator, by.reason.as_ref())
    }
}

impl TryFrom<Operator> for Acting {
    type Error = Problem;

    fn try_from(by: Operator) -> Result<Self, Problem> {
        Self::read(Code::InvalidField, &by.operator, by.reason.as_ref())
    }
}

impl TryFrom<Back> for (Acting, Version) {
    type Error = Problem;

    fn try_from(back: Back) -> Result<Self, Problem> {
        let acting = Acting::read(Code::InvalidField, &back.operator, back.reason.as_ref())?;
        Ok((acting, back.version.read()?))
    }
}

/// What can be said against ending a session, or taking that back.
struct Ends;

impl Fails for Ends {
    fn codes() -> Vec<Code> {
        [Changes::codes(), vec![Code::NotTheOwner]].concat()
    }
}

/// What can be said against going back.
struct Reverts;

impl Fails for Reverts {
    fn codes() -> Vec<Code> {
        let own = [Code::VersionNotFound, Code::OwnerNotAMember, Code::AttributesTooLarge];
        [OfMembers::codes(), own.to_vec()].concat()
    }
}

/// Dissolve a session
///
/// Only the owner may dissolve a session. A dissolved session and its history stay readable.
/// Changes are refused until the session is restored.
#[utoipa::path(
    delete,
    path = "/v1/sessions/{sessionId}",
    operation_id = "dissolveSession",
    tag = "sessions",
    params(Dissolved),
    responses(Written, Problems<(Dissolved, Ends)>)
)]
pub(crate) async fn dissolve(
    sessions: web::Data<Sessions>,
    asked: Dissolved,
) -> Result<HttpResponse, Problem> {
    let (AtSession(id), write) = asked.parts;
    let wish = Wish { acting: (&write.query).try_into()?, action: Action::Dissolve };
    change(&sessions, &asked.caller, id, &write, wish).await
}

/// Restore a dissolved session
///
/// Only the owner may restore a session. The session is then as it was before.
#[utoipa::path(
    post,
    path = "/v1/sessions/{sessionId}/restore",
    operation_id = "restoreSession",
    tag = "sessions",
    params(Restored),
    request_body = Operator,
    responses(Written, Problems<(Restored, Ends)>)
)]
pub(crate) async fn restore(
    sessions: web::Data<Sessions>,
    asked: Restored,
) -> Result<HttpResponse, Problem> {
    let (AtSession(id), write, Json(by)) = asked.parts;
    let wish = Wish { acting: by.try_into()?, action: Action::Restore };
    change(&sessions, &asked.caller, id, &write, wish).await
}

/// Revert a session to an earlier version
///
/// Title, owner, members with their order, and attributes are set to those of the earlier version,
/// as one new version. The operator needs the same rights as for an update with these changes.
#[utoipa::path(
    post,
    path = "/v1/sessions/{sessionId}/revert",
    operation_id = "revertSession",
    tag = "sessions",
    params(Reverted),
    request_body = Back,
    responses(Written, Problems<(Reverted, Reverts)>)
)]
pub(crate) async fn revert(
    sessions: web::Data<Sessions>,
    asked: Reverted,
) -> Result<HttpResponse, Problem> {
    let (AtSession(id), write, Json(back)) = asked.parts;
    let (acting, version) = back.try_into()?;
    let then = sessions.at_version(&asked.caller, id, version).await?;
    let wish = Wish { acting, action: Action::Revert(Box::new(then)) };
    let changed = change(&sessions, &asked.caller, id, &write, wish).await;
    changed.map_err(|problem| problem.about(&OF_THEN))
}
