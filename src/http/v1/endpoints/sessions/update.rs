//! `PATCH /v1/sessions/{sessionId}`: changes of single things.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{OfMembers, Wish, change};
use crate::domain::{Action, AttributesPatch, Update};
use crate::http::shared::permission::Writes;
use crate::http::v1::extract::authorized::Authorised;
use crate::http::v1::extract::json::Json;
use crate::http::v1::extract::object::Object;
use crate::http::v1::extract::path::AtSession;
use crate::http::v1::extract::text::{AccountText, Acting, ReasonText, TitleText, accounts};
use crate::http::v1::extract::write::Write;
use crate::http::v1::problem::{Code, Fails, Problem, Problems};
use crate::http::v1::render::answer::Written;
use crate::service::Sessions;

type Asked = Authorised<Writes, (AtSession, Write, Json<Patch>)>;

/// Changes of a session. Absent fields stay unchanged. Changes that have no effect are not errors.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(as = SessionPatch, example = json!({
    "operator": "alice", "reason": "the next release", "title": "Release 2.0",
    "addMember": ["dave"], "delMember": ["carol"], "attributes": { "project": null, "goal": 2 }
}))]
pub(crate) struct Patch {
    /// The account that acts.
    pub(crate) operator: AccountText,
    pub(crate) reason: Option<ReasonText>,
    pub(crate) title: Option<TitleText>,
    /// The new owner, who must be a member after the change. Only the owner may set it.
    pub(crate) owner: Option<AccountText>,
    /// Accounts to add.
    pub(crate) add_member: Option<Vec<AccountText>>,
    /// Members to remove. Only the owner may remove other members, unless `removeMembers` of
    /// `/v1/limits` is `member`.
    pub(crate) del_member: Option<Vec<AccountText>>,
    /// A JSON merge patch (RFC 7396) of the attributes: members that are `null` are removed. The
    /// result may have at most 16 KiB.
    pub(crate) attributes: Option<Object>,
}

impl TryFrom<Patch> for Wish {
    type Error = Problem;

    fn try_from(patch: Patch) -> Result<Self, Problem> {
        let acting = Acting::read(Code::InvalidField, &patch.operator, patch.reason.as_ref())?;
        let title = patch.title.map(|title| title.read("title")).transpose()?;
        let owner = patch.owner.map(|owner| owner.read("owner")).transpose()?;
        let add = accounts("addMember", &patch.add_member.unwrap_or_default())?;
        let remove = accounts("delMember", &patch.del_member.unwrap_or_default())?;
        let attributes = patch.attributes.map(|Object(map)| AttributesPatch::new(map));
        let mut update = Update::of_members(add, remove)?;
        (update.title, update.owner, update.attributes) = (title, owner, attributes);
        Ok(Self { acting, action: Action::Update(update) })
    }
}

/// What can be said against an update.
pub(crate) struct Updates;

impl Fails for Updates {
    fn codes() -> Vec<Code> {
        let own = [Code::AddedAndRemoved, Code::OwnerNotAMember, Code::AttributesTooLarge];
        [OfMembers::codes(), own.to_vec()].concat()
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
    params(Asked),
    request_body = Patch,
    responses(Written, Problems<(Asked, Updates)>)
)]
pub(crate) async fn update(
    sessions: web::Data<Sessions>,
    asked: Asked,
) -> Result<HttpResponse, Problem> {
    let (AtSession(id), write, Json(patch)) = asked.parts;
    change(&sessions, &asked.caller, id, &write, patch.try_into()?).await
}
