//! `GET /v1/sessions`: the sessions that meet a filter, page by page.

use actix_web::{HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::domain::{self, Filter, Sort, SortKey, TitlePart};
use crate::http::shared::permission::Reads;
use crate::http::v1::extract::authorized::Authorised;
use crate::http::v1::extract::page;
use crate::http::v1::extract::query::Query;
use crate::http::v1::extract::text::{AccountText, account};
use crate::http::v1::problem::{Code, Problem, Problems};
use crate::http::v1::render::view;
use crate::http::v1::render::view::{State, View};
use crate::service::{ListQuery, Sessions};

type Asked = Authorised<Reads, Query<Wanted>>;

/// Which sessions, in which order, and which page of them.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
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
    #[param(value_type = Option<State>)]
    state: Option<String>,
    /// Only sessions whose last change was at this time (RFC 3339) or later. Write a `+` as `%2B`.
    #[param(format = DateTime, example = "2024-06-10T06:13:20Z")]
    updated_since: Option<String>,
    /// The order: by creation time or by last change; with `-` the newest first. Sessions with the
    /// same time are ordered by id.
    #[serde(default)]
    #[param(inline, example = "-updatedAt")]
    sort: Order,
    /// The maximum number of sessions in the page. A page may have fewer.
    #[param(minimum = 1, maximum = 200, default = 50, example = 50)]
    limit: Option<i64>,
    /// `nextCursor` of the previous page. Filters and `sort` must stay the same; `limit` may
    /// change.
    #[param(pattern = "^[A-Za-z0-9_-]+$", max_length = 6144)]
    cursor: Option<String>,
}

/// The order of a list.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[schema(default = "-createdAt")]
enum Order {
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

impl From<Order> for Sort {
    fn from(order: Order) -> Self {
        let (by, newest_first) = match order {
            Order::Created => (SortKey::CreatedAt, false),
            Order::CreatedLast => (SortKey::CreatedAt, true),
            Order::Updated => (SortKey::UpdatedAt, false),
            Order::UpdatedLast => (SortKey::UpdatedAt, true),
        };
        Self { by, newest_first }
    }
}

impl TryFrom<Wanted> for ListQuery {
    type Error = Problem;

    fn try_from(wanted: Wanted) -> Result<Self, Problem> {
        let who = |name, text: Option<String>| {
            text.map(|text| account(Code::InvalidParameter, name, &text)).transpose()
        };
        let filter = Filter {
            member: who("member", wanted.member)?,
            owner: who("owner", wanted.owner)?,
            title: wanted.title.as_deref().map(title).transpose()?,
            state: wanted.state.as_deref().map(state).transpose()?,
            updated_since: wanted.updated_since.as_deref().map(since).transpose()?,
        };
        let size = page::size(wanted.limit)?;
        Ok(Self::new(filter, wanted.sort.into(), size, wanted.cursor.as_deref())?)
    }
}

fn title(text: &str) -> Result<TitlePart, Problem> {
    TitlePart::new(text).map_err(|why| Problem::invalid(Code::InvalidParameter, "title", &why))
}

fn state(text: &str) -> Result<domain::State, Problem> {
    let known = domain::State::ALL.into_iter().find(|state| state.name() == text);
    let why = "must be active or dissolved";
    known.ok_or_else(|| Problem::of(Code::InvalidParameter, "state", why))
}

fn since(text: &str) -> Result<DateTime<Utc>, Problem> {
    let why = "must be a time such as 2024-06-10T06:13:20Z, its + as %2B";
    let wrong = |_| Problem::of(Code::InvalidParameter, "updatedSince", why);
    Ok(DateTime::parse_from_rfc3339(text).map_err(wrong)?.to_utc())
}

/// A part of a list of sessions.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SessionPage, example = json!({ "items": [view::sample()], "nextCursor": null }))]
struct Page<'a> {
    /// The sessions. A page with fewer than `limit`, or without any, is not always the last one.
    #[schema(max_items = 200)]
    items: Vec<View<'a>>,
    /// The `cursor` of the next page; `null` on the last page.
    #[schema(required = true)]
    next_cursor: Option<String>,
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
#[utoipa::path(
    get,
    path = "/v1/sessions",
    operation_id = "listSessions",
    tag = "sessions",
    params(Asked),
    responses((status = 200, description = "A page", body = Page), Problems<Asked>)
)]
pub(crate) async fn list(
    sessions: web::Data<Sessions>,
    asked: Asked,
) -> Result<HttpResponse, Problem> {
    let Query(wanted) = asked.parts;
    let listing = sessions.list(&asked.caller, &wanted.try_into()?).await?;
    let items = listing.items.iter().map(View::from).collect();
    Ok(HttpResponse::Ok().json(Page { items, next_cursor: listing.next }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::Title;

    #[test]
    fn the_description_has_the_limits_that_are_kept() {
        let parameters = json!(Wanted::into_params(|| None));
        let limit = |name: &str, keyword: &str| {
            let named = |one: &&serde_json::Value| one["name"] == name;
            let one = parameters.as_array().unwrap().iter().find(named).unwrap();
            assert!(one["description"].is_string(), "{one}");
            one["schema"][keyword].clone()
        };
        assert_eq!(limit("title", "maxLength"), Title::MAX);
        assert_eq!(limit("limit", "maximum"), page::MOST);
        assert_eq!(limit("limit", "default"), page::USUAL);
        assert_eq!(limit("cursor", "maxLength"), ListQuery::MAX_CURSOR);
        assert_eq!(limit("sort", "default"), "-createdAt");
        assert_eq!(Sort::from(Order::default()), Sort::default());
    }
}
