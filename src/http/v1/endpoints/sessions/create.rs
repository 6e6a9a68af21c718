//! `POST /v1/sessions`.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::domain::{Attributes, NewSession};
use crate::http::shared::permission::CanWrite;
use crate::http::v1::extract::authorized::Authorized;
use crate::http::v1::extract::idempotency::IdempotencyKeyHeader;
use crate::http::v1::extract::json::Json;
use crate::http::v1::extract::object::AttributesJson;
use crate::http::v1::extract::query::Query;
use crate::http::v1::extract::text::{
    AccountInput, AccountList, ActorFields, ReasonText, TitleText,
};
use crate::http::v1::extract::write::{DryRun, HasDryRun as _};
use crate::http::v1::problem::{Code, ErrorCodes, ErrorResponses, Problem};
use crate::http::v1::render::response;
use crate::http::v1::render::response::CreatedResponse;
use crate::http::v1::render::view::SessionType;
use crate::service::{Sessions, WriteOptions};

type CreateRequest = Authorized<CanWrite, (Query<DryRun>, IdempotencyKeyHeader, Json<CreateBody>)>;

/// A session to create.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(as = NewSession, example = json!({
    "operator": "alice", "title": "Release", "member": ["bob", "carol"],
    "attributes": { "project": "muster" }, "reason": "the next release"
}))]
pub(crate) struct CreateBody {
    /// The creator: the owner, and a member whether listed or not.
    operator: AccountInput,
    title: TitleText,
    /// The other members. A repeated account counts once. `/v1/limits` has the minimum and the
    /// maximum number of members, operator included.
    #[schema(value_type = Vec<AccountInput>)]
    member: AccountList,
    #[serde(default)]
    r#type: Option<SessionType>,
    /// Data of the app: at most 16 KiB as compact JSON. Members that are `null` are dropped.
    attributes: Option<AttributesJson>,
    reason: Option<ReasonText>,
}

impl CreateBody {
    /// The new session. The list of members has at most `max_members`.
    pub(crate) fn read(self, max_members: usize) -> Result<NewSession, Problem> {
        let actor = ActorFields::read(Code::InvalidField, &self.operator, self.reason.as_ref())?;
        let SessionType::Multi = self.r#type.unwrap_or_default();
        let title = self.title.read(Code::InvalidField, "title")?;
        let members = self.member.read("member", max_members)?;
        let attributes = self.attributes.map(AttributesJson::read).transpose()?;
        let attributes = Attributes::new(&attributes.unwrap_or_default())?;
        let ActorFields { operator: creator, reason } = actor;
        Ok(NewSession { title, creator, members, attributes, reason })
    }
}

/// The error codes of a create, beside those of the request.
pub(crate) struct CreateErrors;

impl ErrorCodes for CreateErrors {
    fn codes() -> Vec<Code> {
        let own = [Code::TooFewMembers, Code::TooManyMembers, Code::AttributesTooLarge];
        [own.to_vec(), vec![Code::TooManyChanges]].concat()
    }
}

/// Create a session
///
/// The `operator` becomes the owner.
#[utoipa::path(
    post,
    path = "/v1/sessions",
    operation_id = "createSession",
    tag = "sessions",
    params(CreateRequest),
    request_body = CreateBody,
    responses(CreatedResponse, ErrorResponses<(CreateRequest, CreateErrors)>)
)]
pub(crate) async fn create(
    sessions: web::Data<Sessions>,
    mut request: CreateRequest,
) -> Result<HttpResponse, Problem> {
    let (Query(query), IdempotencyKeyHeader(key), Json(body)) = request.parts;
    let options = WriteOptions { idempotency_key: key, dry_run: query.dry_run() };
    let new = body.read(sessions.rules().max_members)?;
    request.memory.count(new.attributes.size())?;
    let outcome = sessions.create(&request.caller, new, &options).await?;
    Ok(response::created(&request.record, &outcome, &options))
}
