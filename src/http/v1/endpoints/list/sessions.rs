//! `GET /v1/sessions`: the sessions that match a filter, page by page.

use actix_web::{HttpResponse, web};
use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use crate::domain::{self, Account, SessionFilter, Sort, SortKey, TitlePart, quoted};
use crate::http::shared::permission::CanRead;
use crate::http::v1::extract::authorized::Authorized;
use crate::http::v1::extract::min_cursor::MinCursor;
use crate::http::v1::extract::page;
use crate::http::v1::extract::query;
use crate::http::v1::extract::query::Query;
use crate::http::v1::extract::text::AccountText;
use crate::http::v1::problem::{Code, ErrorResponses, Problem};
use crate::http::v1::render::json_text::JsonText;
use crate::http::v1::render::view;
use crate::http::v1::render::view::{SessionState, SessionView, rfc3339};
use crate::service::{ListQuery, ListedSessions, Sessions};

type ListSessionsRequest = Authorized<CanRead, (Query<ListSessionsQuery>, MinCursor)>;

/// The query: filters, order and page.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct ListSessionsQuery {
    /// Only sessions with this member.
    #[param(value_type = Option<AccountText>)]
    member: Option<String>,
    /// Only sessions with this owner.
    #[param(value_type = Option<AccountText>)]
    owner: Option<String>,
    /// Only sessions whose title contains this text, in any language. The comparison ignores case,
    /// and full-width and other compatibility forms of characters.
    #[param(
        min_length = 1,
        max_length = 64,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$",
        example = "release"
    )]
    title: Option<String>,
    /// Only sessions in this state. Without the parameter the list has dissolved sessions as well.
    #[param(value_type = Option<SessionState>)]
    state: Option<String>,
    /// Only sessions whose last change was at this time (RFC 3339) or later. Write a `+` as `%2B`. To
    /// follow changes, continue with `completeUntil` of the previous list.
    #[param(format = DateTime, example = "2024-06-10T06:13:20Z")]
    updated_since: Option<String>,
    /// The order: by creation time or by last change; with `-` the newest first. Sessions with the
    /// same time are ordered by id.
    #[serde(default)]
    #[param(inline, example = "-updatedAt")]
    sort: SortOrder,
    /// The maximum number of sessions in the page. A page may have fewer.
    #[param(minimum = 1, maximum = 200, default = 50, example = 50)]
    limit: Option<i64>,
    /// `nextCursor` of the previous page. Filters and `sort` must stay the same; `limit` may
    /// change.
    #[param(pattern = "^[A-Za-z0-9_-]+$", max_length = 128)]
    cursor: Option<String>,
}

/// The order of a list.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
enum SortOrder {
    #[serde(rename = "createdAt")]
    Created,
    #[default]
    #[serde(rename = "-createdAt")]
    CreatedLast,
    #[serde(rename = "updatedAt")]
    Updated,
    #[serde(rename = "-updatedAt")]
    UpdatedLast,
}

impl PartialSchema for SortOrder {
    fn schema() -> RefOr<Schema> {
        // Generators take the names from here: a name must not begin with `-`.
        let names = ["CreatedAt", "CreatedAtDescending", "UpdatedAt", "UpdatedAtDescending"];
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("The order of a list."))
            .default(Some("-createdAt".into()))
            .enum_values(Some(["createdAt", "-createdAt", "updatedAt", "-updatedAt"]))
            .extensions(Some(Extensions::from_iter([("x-enum-varnames", names)])))
            .into()
    }
}

impl ToSchema for SortOrder {}

impl From<SortOrder> for Sort {
    fn from(order: SortOrder) -> Self {
        let (by, newest_first) = match order {
            SortOrder::Created => (SortKey::CreatedAt, false),
            SortOrder::CreatedLast => (SortKey::CreatedAt, true),
            SortOrder::Updated => (SortKey::UpdatedAt, false),
            SortOrder::UpdatedLast => (SortKey::UpdatedAt, true),
        };
        Self { by, newest_first }
    }
}

impl TryFrom<ListSessionsQuery> for ListQuery {
    type Error = Problem;

    fn try_from(params: ListSessionsQuery) -> Result<Self, Problem> {
        let parse_time = |text: &str| query::time("updatedSince", text);
        let parse_account = |name: &str, text: Option<String>| {
            let account = text.as_deref().map(Account::new).transpose();
            account.map_err(|error| Problem::invalid(Code::InvalidParameter, name, &error))
        };
        let filter = SessionFilter {
            member: parse_account("member", params.member)?,
            owner: parse_account("owner", params.owner)?,
            title: params.title.as_deref().map(parse_title).transpose()?,
            state: params.state.as_deref().map(parse_state).transpose()?,
            updated_since: params.updated_since.as_deref().map(parse_time).transpose()?,
        };
        let size = page::size(params.limit)?;
        let cursor = params.cursor.as_deref();
        Self::new(filter, params.sort.into(), size, cursor)
            .map_err(|error| page::invalid_cursor(error, cursor))
    }
}

fn parse_title(text: &str) -> Result<TitlePart, Problem> {
    TitlePart::new(text).map_err(|error| Problem::invalid(Code::InvalidParameter, "title", &error))
}

fn parse_state(text: &str) -> Result<domain::State, Problem> {
    let matching = domain::State::ALL.into_iter().find(|state| state.name() == text);
    matching.ok_or_else(|| {
        let reason = format!("must be active or dissolved, got {}", quoted(text));
        Problem::for_field(Code::InvalidParameter, "state", reason)
    })
}

/// A part of a list of sessions.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SessionPage, example = json!({
    "items": [view::sample()], "nextCursor": null, "completeUntil": "2024-06-10T06:13:31.000000Z"
}))]
struct SessionPage<'a> {
    /// The sessions. A page with fewer than `limit`, or without any, is not always the last one.
    #[schema(max_items = 200)]
    items: Vec<SessionView<'a>>,
    /// The `cursor` of the next page; `null` on the last page.
    #[schema(required = true)]
    next_cursor: Option<String>,
    /// The time up to which all pages together have every change, in UTC with microseconds. The list
    /// continues with this time as `updatedSince`. Present if `updatedSince` is set, or if the order
    /// is by `updatedAt`; the same on all pages.
    #[schema(value_type = String, format = DateTime, required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    complete_until: Option<String>,
}

/// Find sessions
///
/// The sessions that match every filter; without filters all sessions of the enterprise.
///
/// A page can be shorter than `limit`, even empty, and still have a `nextCursor`. Read pages until
/// `nextCursor` is `null`. The pages then contain every session that matched the filters all the
/// time, each once, even if sessions are created and changed meanwhile. A session that begins or
/// ceases to match meanwhile may be missing. Each page shows its sessions as they are when the page
/// is read. In an order by `updatedAt` a session keeps the place that it had when the first page
/// was read, even if it has changed since.
///
/// To follow changes, ask for `updatedSince` and read all pages. Then continue with `completeUntil`,
/// not with the greatest `updatedAt`: every change up to `completeUntil` is in the list, and no
/// change can appear there later. A session whose last change is younger is not in the list, because
/// an older change may still be committed; it is in the next list. A session can appear again, so
/// ignore versions that you already have. The clocks of servers have no effect.
#[utoipa::path(
    get,
    path = "/v1/sessions",
    operation_id = "listSessions",
    tag = "sessions",
    params(ListSessionsRequest),
    responses((status = 200, description = "A page", body = SessionPage), ErrorResponses<ListSessionsRequest>)
)]
pub(crate) async fn list(
    sessions: web::Data<Sessions>,
    request: ListSessionsRequest,
) -> Result<HttpResponse, Problem> {
    let (Query(params), MinCursor(cursor)) = request.parts;
    let (caller, query) = (request.caller, params.try_into()?);
    let read = async move |sessions: Sessions| {
        let list = || sessions.list(&caller, &query).boxed();
        let covers =
            |found: &ListedSessions, at| found.complete_until.is_none_or(|until| until >= at);
        let found = sessions.read_after(&caller, cursor, list, covers).await;
        let found = found.map_err(MinCursor::problem)?;
        let items = found.items.iter().map(SessionView::from).collect();
        let complete_until = found.complete_until.map(rfc3339);
        let page = JsonText::new(&SessionPage { items, next_cursor: found.next, complete_until })?;
        Ok::<_, Problem>((caller, found.items.len(), page))
    };
    let (caller, count, page) = sessions.read_in_background(read).await?;
    request.record.charge_page(&caller, count);
    Ok(page.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::Title;

    #[test]
    fn description_states_the_enforced_limits() {
        let parameters = json!(ListSessionsQuery::into_params(|| None));
        let limit = |name: &str, keyword: &str| {
            let is_named = |parameter: &&serde_json::Value| parameter["name"] == name;
            let parameter = parameters.as_array().unwrap().iter().find(is_named).unwrap();
            assert!(parameter["description"].is_string(), "{parameter}");
            parameter["schema"][keyword].clone()
        };
        assert_eq!(limit("title", "maxLength"), Title::MAX);
        assert_eq!(limit("limit", "maximum"), page::MAX);
        assert_eq!(limit("limit", "default"), page::DEFAULT);
        assert_eq!(limit("cursor", "maxLength"), ListQuery::MAX_CURSOR);
        assert_eq!(limit("sort", "default"), "-createdAt");
        assert_eq!(Sort::from(SortOrder::default()), Sort::default());
    }
}
