//! Changes of `/v1/sessions/{sessionId}/members`: of the whole list, or of one member.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;

use super::state::{OperatorBody, OperatorQuery};
use super::{ChangeRequest, MemberErrors, apply_change};
use crate::domain::{Action, Update};
use crate::http::shared::permission::CanWrite;
use crate::http::v1::extract::authorized::Authorized;
use crate::http::v1::extract::json::Json;
use crate::http::v1::extract::path::{ChangedMemberPath, SessionPath};
use crate::http::v1::extract::text::{AccountInput, AccountList, ActorFields, ReasonText};
use crate::http::v1::extract::write::WriteParams;
use crate::http::v1::problem::{Code, ErrorResponses, Problem};
use crate::http::v1::render::response::UpdatedResponse;
use crate::service::Sessions;

type ReplaceMembersRequest = Authorized<CanWrite, (SessionPath, WriteParams, Json<MembersBody>)>;
type AddMemberRequest =
    Authorized<CanWrite, (SessionPath, ChangedMemberPath, WriteParams, Json<OperatorBody>)>;
type RemoveMemberRequest =
    Authorized<CanWrite, (SessionPath, ChangedMemberPath, WriteParams<OperatorQuery>)>;

/// The path has the account of the member, so problems with it name `account`.
const FIELD_NAMES: [(&str, &str); 2] = [("member", "account"), ("delMember", "account")];

/// The new list of members.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({
    "operator": "alice", "reason": "the new team", "member": ["alice", "bob", "dave", "erin"]
}))]
pub(crate) struct MembersBody {
    /// The account that acts.
    operator: AccountInput,
    reason: Option<ReasonText>,
    /// All members, owner included. Remaining members keep their places; new ones follow.
    #[schema(value_type = Vec<AccountInput>)]
    member: AccountList,
}

impl MembersBody {
    /// The change. The list of members has at most `max_members`.
    fn read(self, max_members: usize) -> Result<ChangeRequest, Problem> {
        let actor = ActorFields::read(Code::InvalidField, &self.operator, self.reason.as_ref())?;
        let action = Action::Members(self.member.read("member", max_members)?);
        Ok(ChangeRequest { actor, action })
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
    params(ReplaceMembersRequest),
    request_body = MembersBody,
    responses(UpdatedResponse, ErrorResponses<(ReplaceMembersRequest, MemberErrors)>)
)]
pub(crate) async fn replace(
    sessions: web::Data<Sessions>,
    request: ReplaceMembersRequest,
) -> Result<HttpResponse, Problem> {
    let (SessionPath(id), write, Json(body)) = request.parts;
    let change_request = body.read(sessions.rules().max_members)?;
    let changed = apply_change(&sessions, &request.caller, id, &write, change_request).await;
    changed.map_err(|problem| problem.rename_field(&[("delMember", "member")]))
}

/// Add a member
///
/// If the account is a member already, nothing changes.
#[utoipa::path(
    put,
    path = "/v1/sessions/{sessionId}/members/{account}",
    operation_id = "addMember",
    tag = "members",
    params(AddMemberRequest),
    request_body = OperatorBody,
    responses(UpdatedResponse, ErrorResponses<(AddMemberRequest, MemberErrors)>)
)]
pub(crate) async fn add(
    sessions: web::Data<Sessions>,
    request: AddMemberRequest,
) -> Result<HttpResponse, Problem> {
    let (SessionPath(id), ChangedMemberPath(account), write, Json(operator)) = request.parts;
    write.conditions.refuse_any_tag()?;
    let action = Action::Update(Update::for_members(vec![account], Vec::new())?);
    let change_request = ChangeRequest { actor: operator.try_into()?, action };
    let changed = apply_change(&sessions, &request.caller, id, &write, change_request).await;
    changed.map_err(|problem| problem.rename_field(&FIELD_NAMES))
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
    params(RemoveMemberRequest),
    responses(UpdatedResponse, ErrorResponses<(RemoveMemberRequest, MemberErrors)>)
)]
pub(crate) async fn remove(
    sessions: web::Data<Sessions>,
    request: RemoveMemberRequest,
) -> Result<HttpResponse, Problem> {
    let (SessionPath(id), ChangedMemberPath(account), write) = request.parts;
    write.conditions.refuse_any_tag()?;
    let action = Action::Update(Update::for_members(Vec::new(), vec![account])?);
    let change_request = ChangeRequest { actor: (&write.query).try_into()?, action };
    let changed = apply_change(&sessions, &request.caller, id, &write, change_request).await;
    changed.map_err(|problem| problem.rename_field(&FIELD_NAMES))
}
