//! `POST /v1/sessions`.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::domain::{Attributes, AttributesPatch, NewSession};
use crate::http::shared::permission::Writes;
use crate::http::v1::extract::authorized::Authorised;
use crate::http::v1::extract::idempotency::Named;
use crate::http::v1::extract::json::Json;
use crate::http::v1::extract::object::Object;
use crate::http::v1::extract::query::Query;
use crate::http::v1::extract::text::{AccountText, Acting, ReasonText, TitleText, accounts};
use crate::http::v1::extract::unsupported_headers::Unversioned;
use crate::http::v1::extract::write::{DryRun, Rehearses as _};
use crate::http::v1::problem::{Code, Fails, Problem, Problems};
use crate::http::v1::render::answer;
use crate::http::v1::render::answer::Begun;
use crate::http::v1::render::view::Kind;
use crate::service::{Sessions, WriteOptions};

type Asked = Authorised<Writes, (Query<DryRun>, Named, Unversioned, Json<New>)>;

/// A session to create.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(as = NewSession, example = json!({
    "operator": "alice", "title": "Release", "member": ["bob", "carol"],
    "attributes": { "project": "muster" }, "reason": "the next release"
}))]
pub(crate) struct New {
    /// The creator: the owner, and a member whether listed or not.
    operator: AccountText,
    title: TitleText,
    /// The other members. A repeated account counts once. `/v1/limits` has the minimum and the
    /// maximum number of members, operator included.
    member: Vec<AccountText>,
    #[serde(default)]
    r#type: Option<Kind>,
    /// Data of the app: at most 16 KiB as compact JSON. Members that are `null` are dropped.
    attributes: Option<Object>,
    reason: Option<ReasonText>,
}

impl TryFrom<New> for NewSession {
    type Error = Problem;

    fn try_from(new: New) -> Result<Self, Problem> {
        let acting = Acting::read(Code::InvalidField, &new.operator, new.reason.as_ref())?;
        let Kind::Multi = new.r#type.unwrap_or_default();
        let title = new.title.read("title")?;
        let members = accounts("member", &new.member)?;
        let attributes = new.attributes.map(|Object(map)| AttributesPatch::new(map));
        let attributes = Attributes::new(&attributes.unwrap_or_default())?;
        let Acting { operator: creator, reason } = acting;
        Ok(Self { title, creator, members, attributes, reason })
    }
}

/// What can be said against a new session.
pub(crate) struct Creates;

impl Fails for Creates {
    fn codes() -> Vec<Code> {
        let own = [Code::TooFewMembers, Code::TooManyMembers, Code::AttributesTooLarge];
        [own.to_vec(), vec![Code::Contended]].concat()
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
    params(Asked),
    request_body = New,
    responses(Begun, Problems<(Asked, Creates)>)
)]
pub(crate) async fn create(
    sessions: web::Data<Sessions>,
    asked: Asked,
) -> Result<HttpResponse, Problem> {
    let (Query(query), Named(key), _, Json(new)) = asked.parts;
    let terms = WriteOptions { key, dry_run: query.dry_run() };
    let done = sessions.create(&asked.caller, new.try_into()?, &terms).await?;
    Ok(answer::begun(&asked.log, &done, &terms))
}
