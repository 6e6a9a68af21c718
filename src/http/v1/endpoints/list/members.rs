//! `GET /v1/sessions/{sessionId}/members` and `GET /v1/sessions/{sessionId}/members/{account}`: all
//! members of a session, or one.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::domain::Member;
use crate::http::shared::permission::CanRead;
use crate::http::v1::extract::authorized::Authorized;
use crate::http::v1::extract::min_version::MinVersion;
use crate::http::v1::extract::page;
use crate::http::v1::extract::path::{MemberPath, SessionPath};
use crate::http::v1::extract::query::{NoParams, Query};
use crate::http::v1::extract::text::AccountText;
use crate::http::v1::problem::{Code, ErrorCodes, ErrorResponses, Problem};
use crate::service::{MembersQuery, Sessions};

type ListMembersRequest = Authorized<CanRead, (SessionPath, Query<ListMembersQuery>, MinVersion)>;
type MemberRequest = Authorized<CanRead, (SessionPath, MemberPath, Query<NoParams>, MinVersion)>;

/// The query: a page of the members.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListMembersQuery {
    /// The maximum number of members in the page.
    #[param(minimum = 1, maximum = 200, default = 50, example = 50)]
    limit: Option<i64>,
    /// `nextCursor` of the previous page, of the same session.
    #[param(pattern = "^[A-Za-z0-9_-]+$", max_length = 64)]
    cursor: Option<String>,
}

/// A part of a session's members.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MemberPage, example = json!({
    "items": [{ "account": "alice", "joinedVersion": 1, "owner": true }], "nextCursor": null
}))]
struct MemberPage<'a> {
    /// The members, in their order.
    #[schema(max_items = 200)]
    items: Vec<MemberView<'a>>,
    /// The `cursor` of the next page; `null` on the last page.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// A member of a session.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Member, example = json!({ "account": "alice", "joinedVersion": 1, "owner": true }))]
struct MemberView<'a> {
    #[schema(value_type = AccountText)]
    account: &'a str,
    /// The version that added the account, or gave it another place in the list.
    #[schema(minimum = 1)]
    joined_version: i64,
    /// Whether the member owns the session.
    owner: bool,
}

impl<'a> From<&'a Member> for MemberView<'a> {
    fn from(member: &'a Member) -> Self {
        Self {
            account: member.account.as_str(),
            joined_version: member.joined_version.get(),
            owner: member.is_owner,
        }
    }
}

/// The error codes of the list, beside those of the request.
struct ListMembersErrors;

/// The error codes of one member, beside those of the request.
struct GetMemberErrors;

impl ErrorCodes for ListMembersErrors {
    fn codes() -> Vec<Code> {
        vec![Code::SessionNotFound]
    }
}

impl ErrorCodes for GetMemberErrors {
    fn codes() -> Vec<Code> {
        vec![Code::SessionNotFound, Code::MemberNotFound]
    }
}

/// The members of a session
///
/// The members in their order; dissolved sessions have members as well. A member that stays in the
/// session while the pages are read is listed once, unless a change reorders the members.
#[utoipa::path(
    get,
    path = "/v1/sessions/{sessionId}/members",
    operation_id = "listMembers",
    tag = "members",
    params(ListMembersRequest),
    responses((status = 200, description = "A page", body = MemberPage), ErrorResponses<(ListMembersRequest, ListMembersErrors)>)
)]
pub(crate) async fn list(
    sessions: web::Data<Sessions>,
    request: ListMembersRequest,
) -> Result<HttpResponse, Problem> {
    let (SessionPath(id), Query(params), MinVersion(min)) = request.parts;
    let size = page::size(params.limit)?;
    let cursor = params.cursor.as_deref();
    let query =
        MembersQuery::new(id, size, cursor).map_err(|error| page::invalid_cursor(error, cursor))?;
    let members = sessions.members(&request.caller, &query, min).await?;
    let items = members.items.iter().map(MemberView::from).collect();
    Ok(HttpResponse::Ok().json(MemberPage { items, next_cursor: members.next }))
}

/// One member of a session
///
/// The problem is `member_not_found` if the account is not a member.
#[utoipa::path(
    get,
    path = "/v1/sessions/{sessionId}/members/{account}",
    operation_id = "getMember",
    tag = "members",
    params(MemberRequest),
    responses(
        (status = 200, description = "The member", body = MemberView),
        ErrorResponses<(MemberRequest, GetMemberErrors)>
    )
)]
pub(crate) async fn get(
    sessions: web::Data<Sessions>,
    request: MemberRequest,
) -> Result<HttpResponse, Problem> {
    let (SessionPath(id), MemberPath(account), _, MinVersion(min)) = request.parts;
    let member = sessions.member(&request.caller, id, &account, min).await?;
    Ok(HttpResponse::Ok().json(MemberView::from(&member)))
}
