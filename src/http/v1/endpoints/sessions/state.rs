//! Changes of a session as a whole: dissolve, restore, revert.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{ChangeErrors, ChangeRequest, MemberErrors, apply_change};
use crate::domain::{Action, Version};
use crate::http::shared::permission::CanWrite;
use crate::http::v1::extract::authorized::Authorized;
use crate::http::v1::extract::json::Json;
use crate::http::v1::extract::number::VersionNumber;
use crate::http::v1::extract::path::SessionPath;
use crate::http::v1::extract::text::{AccountInput, AccountText, ActorFields, ReasonText};
use crate::http::v1::extract::write::{HasDryRun, WriteParams};
use crate::http::v1::problem::{Code, ErrorCodes, ErrorResponses, Problem};
use crate::http::v1::render::response::UpdatedResponse;
use crate::service::Sessions;

/// The request of a revert has only the field `version`, so problems with any part of that version
/// name this field.
const FIELD_NAMES: [(&str, &str); 4] = [
    ("owner", "version"),
    ("member", "version"),
    ("delMember", "version"),
    ("attributes", "version"),
];

type DissolveRequest = Authorized<CanWrite, (SessionPath, WriteParams<OperatorQuery>)>;
type RestoreRequest = Authorized<CanWrite, (SessionPath, WriteParams, Json<OperatorBody>)>;
type RevertRequest = Authorized<CanWrite, (SessionPath, WriteParams, Json<RevertBody>)>;

/// The operator and the reason in the query, for requests without a body.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct OperatorQuery {
    /// The account that acts.
    #[param(inline, value_type = AccountText, example = "alice")]
    operator: AccountInput,
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
#[schema(as = Actor, example = json!({ "operator": "alice", "reason": "asked for by the team" }))]
pub(crate) struct OperatorBody {
    /// The account that acts.
    operator: AccountInput,
    reason: Option<ReasonText>,
}

/// The version to revert to.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(as = Revert, example = json!({
    "operator": "alice", "reason": "that was a mistake", "version": 1
}))]
pub(crate) struct RevertBody {
    /// The account that acts.
    operator: AccountInput,
    reason: Option<ReasonText>,
    /// The version whose content the session gets.
    version: VersionNumber,
}

impl HasDryRun for OperatorQuery {
    fn dry_run(&self) -> bool {
        self.dry_run
    }
}

impl TryFrom<&OperatorQuery> for ActorFields {
    type Error = Problem;

    fn try_from(query: &OperatorQuery) -> Result<Self, Problem> {
        Self::read(Code::InvalidParameter, &query.operator, query.reason.as_ref())
    }
}

impl TryFrom<OperatorBody> for ActorFields {
    type Error = Problem;

    fn try_from(body: OperatorBody) -> Result<Self, Problem> {
        Self::read(Code::InvalidField, &body.operator, body.reason.as_ref())
    }
}

impl TryFrom<RevertBody> for (ActorFields, Version) {
    type Error = Problem;

    fn try_from(body: RevertBody) -> Result<Self, Problem> {
        let actor = ActorFields::read(Code::InvalidField, &body.operator, body.reason.as_ref())?;
        Ok((actor, body.version.read()?))
    }
}

/// The error codes of dissolve and restore, beside those of the request.
struct StateErrors;

impl ErrorCodes for StateErrors {
    fn codes() -> Vec<Code> {
        [ChangeErrors::codes(), vec![Code::NotTheOwner]].concat()
    }
}

/// The error codes of revert, beside those of the request.
struct RevertErrors;

impl ErrorCodes for RevertErrors {
    fn codes() -> Vec<Code> {
        let own = [Code::VersionNotFound, Code::OwnerNotAMember, Code::AttributesTooLarge];
        [MemberErrors::codes(), own.to_vec()].concat()
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
    params(DissolveRequest),
    responses(UpdatedResponse, ErrorResponses<(DissolveRequest, StateErrors)>)
)]
pub(crate) async fn dissolve(
    sessions: web::Data<Sessions>,
    request: DissolveRequest,
) -> Result<HttpResponse, Problem> {
    let (SessionPath(id), write) = request.parts;
    let change_request =
        ChangeRequest { actor: (&write.query).try_into()?, action: Action::Dissolve };
    apply_change(&sessions, &request.caller, id, &write, change_request).await
}

/// Restore a dissolved session
///
/// Only the owner may restore a session. The session is then as it was before.
#[utoipa::path(
    post,
    path = "/v1/sessions/{sessionId}/restore",
    operation_id = "restoreSession",
    tag = "sessions",
    params(RestoreRequest),
    request_body = OperatorBody,
    responses(UpdatedResponse, ErrorResponses<(RestoreRequest, StateErrors)>)
)]
pub(crate) async fn restore(
    sessions: web::Data<Sessions>,
    request: RestoreRequest,
) -> Result<HttpResponse, Problem> {
    let (SessionPath(id), write, Json(operator)) = request.parts;
    let change_request = ChangeRequest { actor: operator.try_into()?, action: Action::Restore };
    apply_change(&sessions, &request.caller, id, &write, change_request).await
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
    params(RevertRequest),
    request_body = RevertBody,
    responses(UpdatedResponse, ErrorResponses<(RevertRequest, RevertErrors)>)
)]
pub(crate) async fn revert(
    sessions: web::Data<Sessions>,
    request: RevertRequest,
) -> Result<HttpResponse, Problem> {
    let (SessionPath(id), write, Json(body)) = request.parts;
    let (actor, version) = body.try_into()?;
    let past = sessions.at_version(&request.caller, id, version).await?;
    let change_request = ChangeRequest { actor, action: Action::Revert(Box::new(past)) };
    let changed = apply_change(&sessions, &request.caller, id, &write, change_request).await;
    changed.map_err(|problem| problem.rename_field(&FIELD_NAMES))
}
