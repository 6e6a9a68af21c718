//! `PATCH /v1/sessions/{sessionId}`: changes of single fields.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{ChangeRequest, MemberErrors, apply_change};
use crate::domain::{Action, Update};
use crate::http::shared::permission::CanWrite;
use crate::http::v1::extract::authorized::Authorized;
use crate::http::v1::extract::json::Json;
use crate::http::v1::extract::object::AttributesJson;
use crate::http::v1::extract::path::SessionPath;
use crate::http::v1::extract::text::{
    AccountInput, AccountList, ActorFields, ReasonText, TitleText,
};
use crate::http::v1::extract::write::WriteParams;
use crate::http::v1::problem::{Code, ErrorCodes, ErrorResponses, Problem};
use crate::http::v1::render::response::UpdatedResponse;
use crate::service::Sessions;

type UpdateRequest = Authorized<CanWrite, (SessionPath, WriteParams, Json<UpdateBody>)>;

/// Changes of a session. Absent fields stay unchanged. Changes that have no effect are not errors.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(as = SessionPatch, example = json!({
    "operator": "alice", "reason": "the next release", "title": "Release 2.0",
    "addMember": ["dave", "erin"], "delMember": ["carol"],
    "attributes": { "project": null, "goal": 2 }
}))]
pub(crate) struct UpdateBody {
    /// The account that acts.
    pub(crate) operator: AccountInput,
    pub(crate) reason: Option<ReasonText>,
    pub(crate) title: Option<TitleText>,
    /// The new owner, who must be a member after the change. Only the owner may set it.
    pub(crate) owner: Option<AccountInput>,
    /// Accounts to add.
    #[schema(value_type = Option<Vec<AccountInput>>)]
    pub(crate) add_member: Option<AccountList>,
    /// Members to remove. Only the owner may remove other members, unless `removeMembers` of
    /// `/v1/limits` is `member`.
    #[schema(value_type = Option<Vec<AccountInput>>)]
    pub(crate) del_member: Option<AccountList>,
    /// A JSON merge patch (RFC 7396) of the attributes: members that are `null` are removed. The
    /// result may have at most 16 KiB.
    pub(crate) attributes: Option<AttributesJson>,
}

impl UpdateBody {
    /// The change. A list of accounts has at most `max_members`.
    pub(crate) fn read(self, max_members: usize) -> Result<ChangeRequest, Problem> {
        let actor = ActorFields::read(Code::InvalidField, &self.operator, self.reason.as_ref())?;
        let title = self.title.map(|title| title.read(Code::InvalidField, "title")).transpose()?;
        let owner = self.owner.map(|owner| owner.read(Code::InvalidField, "owner")).transpose()?;
        let accounts = |field: &str, list: Option<AccountList>| {
            list.map_or_else(|| Ok(Vec::new()), |list| list.read(field, max_members))
        };
        let add = accounts("addMember", self.add_member)?;
        let remove = accounts("delMember", self.del_member)?;
        let attributes = self.attributes.map(AttributesJson::read).transpose()?;
        let mut update = Update::for_members(add, remove)?;
        (update.title, update.owner, update.attributes) = (title, owner, attributes);
        Ok(ChangeRequest { actor, action: Action::Update(update) })
    }
}

/// The error codes of an update, beside those of the request.
pub(crate) struct UpdateErrors;

impl ErrorCodes for UpdateErrors {
    fn codes() -> Vec<Code> {
        let own = [Code::AddedAndRemoved, Code::OwnerNotAMember, Code::AttributesTooLarge];
        [MemberErrors::codes(), own.to_vec()].concat()
    }
}

/// Change a session
///
/// The changes make one version. Either all of them happen, or nothing does.
#[utoipa::path(
    patch,
    path = "/v1/sessions/{sessionId}",
    operation_id = "updateSession",
    tag = "sessions",
    params(UpdateRequest),
    request_body = UpdateBody,
    responses(UpdatedResponse, ErrorResponses<(UpdateRequest, UpdateErrors)>)
)]
pub(crate) async fn update(
    sessions: web::Data<Sessions>,
    mut request: UpdateRequest,
) -> Result<HttpResponse, Problem> {
    let (SessionPath(id), write, Json(body)) = request.parts;
    let change_request = body.read(sessions.rules().max_members)?;
    request.memory.count(change_request.action.attributes_size())?;
    apply_change(&sessions, &request.caller, id, &write, change_request).await
}
