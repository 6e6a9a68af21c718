//! `GET /v1/sessions/{sessionId}/diff`: the changes from one version to another.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use crate::domain::{Account, Version};
use crate::http::shared::permission::CanRead;
use crate::http::shared::render::as_texts;
use crate::http::v1::extract::authorized::Authorized;
use crate::http::v1::extract::object::AttributesJson;
use crate::http::v1::extract::path::SessionPath;
use crate::http::v1::extract::query::Query;
use crate::http::v1::extract::text::{AccountText, TitleText};
use crate::http::v1::problem::{Code, ErrorCodes, ErrorResponses, Problem};
use crate::http::v1::render::json_text::JsonText;
use crate::http::v1::render::view::SessionState;
use crate::service::{self, Sessions};

type DiffRequest = Authorized<CanRead, (SessionPath, Query<DiffQuery>)>;

/// The query: two versions. Either of them may be the later one.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DiffQuery {
    /// The version to compare.
    #[param(minimum = 1, example = 1)]
    from: i64,
    /// The version to compare with.
    #[param(minimum = 1, example = 1)]
    to: i64,
}

impl TryFrom<DiffQuery> for (Version, Version) {
    type Error = Problem;

    fn try_from(query: DiffQuery) -> Result<Self, Problem> {
        let version = |name: &str, number| {
            Version::new(number)
                .map_err(|error| Problem::invalid(Code::InvalidParameter, name, &error))
        };
        Ok((version("from", query.from)?, version("to", query.to)?))
    }
}

/// The changes that lead from one version of a session to another.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SessionDiff, example = json!({
    "from": 1, "to": 3, "title": { "from": "Release", "to": "Release 2.0" }, "owner": null,
    "addMember": ["dave"], "delMember": [], "reordered": false,
    "attributes": { "project": null }, "state": null
}))]
struct Diff<'a> {
    /// The version to compare.
    #[schema(minimum = 1)]
    from: i64,
    /// The version to compare with.
    #[schema(minimum = 1)]
    to: i64,
    /// `null` if both versions have the same.
    #[schema(required = true)]
    title: Option<TitleChange<'a>>,
    /// `null` if both versions have the same.
    #[schema(required = true)]
    owner: Option<OwnerChange<'a>>,
    /// Members of `to` that `from` does not have.
    #[schema(value_type = Vec<AccountText>)]
    #[serde(serialize_with = "as_texts")]
    add_member: &'a [Account],
    /// Members of `from` that `to` does not have.
    #[schema(value_type = Vec<AccountText>)]
    #[serde(serialize_with = "as_texts")]
    del_member: &'a [Account],
    /// Whether the order of the members changes beyond additions at the end and removals. Applying
    /// `addMember` and `delMember` then gives the same members in another order.
    reordered: bool,
    /// The smallest JSON merge patch (RFC 7396) of the attributes; `null` if both versions have the
    /// same.
    #[schema(value_type = Option<AttributesJson>, required = true)]
    attributes: Option<&'a Map<String, Value>>,
    /// `null` if both versions have the same.
    #[schema(required = true)]
    state: Option<StateChange>,
}

/// The titles of both versions.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({ "from": "Release", "to": "Release 2.0" }))]
struct TitleChange<'a> {
    /// The value in the version `from`.
    #[schema(value_type = TitleText)]
    from: &'a str,
    /// The value in the version `to`.
    #[schema(value_type = TitleText)]
    to: &'a str,
}

/// The owners of both versions.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({ "from": "alice", "to": "bob" }))]
struct OwnerChange<'a> {
    /// The value in the version `from`.
    #[schema(value_type = AccountText)]
    from: &'a str,
    /// The value in the version `to`.
    #[schema(value_type = AccountText)]
    to: &'a str,
}

/// The states of both versions.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({ "from": "active", "to": "dissolved" }))]
struct StateChange {
    /// The value in the version `from`.
    from: SessionState,
    /// The value in the version `to`.
    to: SessionState,
}

impl<'a> From<&'a service::SessionDiff> for Diff<'a> {
    fn from(diff: &'a service::SessionDiff) -> Self {
        let service::SessionDiff { from, to, changes } = diff;
        let title = || TitleChange { from: from.title.as_str(), to: to.title.as_str() };
        let owner = || OwnerChange { from: from.owner.as_str(), to: to.owner.as_str() };
        let states = || StateChange { from: from.state.into(), to: to.state.into() };
        Self {
            from: from.version.get(),
            to: to.version.get(),
            title: changes.title.is_some().then(title),
            owner: changes.owner.is_some().then(owner),
            add_member: &changes.added,
            del_member: &changes.removed,
            reordered: changes.members.is_some(),
            attributes: changes.attributes.as_ref().map(|patch| patch.as_map()),
            state: (from.state != to.state).then(states),
        }
    }
}

/// The error codes of the endpoint, beside those of the request.
struct DiffErrors;

impl ErrorCodes for DiffErrors {
    fn codes() -> Vec<Code> {
        vec![Code::SessionNotFound, Code::VersionNotFound]
    }
}

/// Compare two versions of a session
///
/// `from` may be the later version.
#[utoipa::path(
    get,
    path = "/v1/sessions/{sessionId}/diff",
    operation_id = "diffSession",
    tag = "history",
    params(DiffRequest),
    responses((status = 200, description = "The differences", body = Diff), ErrorResponses<(DiffRequest, DiffErrors)>)
)]
pub(crate) async fn get(
    sessions: web::Data<Sessions>,
    request: DiffRequest,
) -> Result<HttpResponse, Problem> {
    let (SessionPath(id), Query(query)) = request.parts;
    let (from, to) = query.try_into()?;
    // If the later version exists, the earlier one exists too: only the later one can be missing.
    let later = if from > to { "from" } else { "to" };
    let caller = request.caller;
    let read = async move |sessions: Sessions| {
        let diff = sessions.diff(&caller, id, from, to).await;
        let diff =
            diff.map_err(|error| Problem::from(error).rename_field(&[("version", later)]))?;
        JsonText::new(&Diff::from(&diff))
    };
    Ok(sessions.read_in_background(read).await?.into())
}
