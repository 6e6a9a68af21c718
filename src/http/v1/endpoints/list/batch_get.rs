//! `POST /v1/sessions/batch-get`: many sessions by their ids, in one statement.

use std::collections::HashSet;

use actix_web::{HttpResponse, web};
use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::{Array, ArrayBuilder};

use crate::domain::SessionId;
use crate::http::shared::permission::CanRead;
use crate::http::shared::render::as_texts;
use crate::http::v1::extract::authorized::Authorized;
use crate::http::v1::extract::bounded_list::BoundedList;
use crate::http::v1::extract::json::Json;
use crate::http::v1::extract::min_cursor::MinCursor;
use crate::http::v1::extract::parameter::text;
use crate::http::v1::extract::path::ID_PATTERN;
use crate::http::v1::extract::query::{NoParams, Query};
use crate::http::v1::problem::{Code, ErrorResponses, Problem};
use crate::http::v1::render::json_text::JsonText;
use crate::http::v1::render::view;
use crate::http::v1::render::view::SessionView;
use crate::service::{Sessions, SessionsFound};

/// The maximum number of ids in a request.
pub(crate) const MAX_IDS: usize = 200;

/// An id as a caller may write it, then an id as responses have it.
const REQUEST_ID_EXAMPLE: &str = "8ad595f3-73b3-4b56-90af-f336f9222fc5";
const RESPONSE_ID_EXAMPLE: &str = "{8AD595F3-73B3-4B56-90AF-F336F9222FC5}";
const RESPONSE_ID_PATTERN: &str = r"^\{[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}\}$";

type BatchGetRequest = Authorized<CanRead, (Query<NoParams>, MinCursor, Json<BatchGetBody>)>;

/// The sessions to read.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SessionIds, example = json!({ "ids": [
    "{8AD595F3-73B3-4B56-90AF-F336F9222FC5}", "01900c5e-7a00-7000-8000-000000000001"
]}))]
pub(crate) struct BatchGetBody {
    #[schema(schema_with = request_ids)]
    ids: BoundedList<String, MAX_IDS>,
}

/// The ids of a body in their order, each once.
struct UniqueSessionIds(Vec<SessionId>);

impl TryFrom<BatchGetBody> for UniqueSessionIds {
    type Error = Problem;

    fn try_from(body: BatchGetBody) -> Result<Self, Problem> {
        let ids = body.ids.read("ids")?;
        let parse_id = |(index, text): (usize, &String)| {
            let field = || format!("ids[{index}]");
            let id = text.parse::<SessionId>();
            id.map_err(|error| Problem::invalid(Code::InvalidField, field(), &error))
        };
        let ids: Vec<_> = ids.iter().enumerate().map(parse_id).collect::<Result<_, _>>()?;
        let mut seen = HashSet::new();
        Ok(Self(ids.into_iter().filter(|id| seen.insert(*id)).collect()))
    }
}

/// The sessions that were read, and the ids of the others.
#[derive(Serialize, ToSchema)]
#[schema(as = SessionsFound, example = json!({
    "items": [view::sample()], "missing": ["{01900C5E-7A00-7000-8000-000000000001}"],
    "remaining": ["{01900C5E-7A00-7000-8000-000000000002}"]
}))]
struct BatchGetResponse<'a> {
    /// The sessions, in the order of the ids, each once.
    #[schema(max_items = 200)]
    items: Vec<SessionView<'a>>,
    #[schema(schema_with = response_ids)]
    #[serde(serialize_with = "as_texts")]
    missing: Vec<SessionId>,
    #[schema(schema_with = remaining_ids, required = false)]
    #[serde(serialize_with = "as_texts", skip_serializing_if = "<[_]>::is_empty")]
    remaining: &'a [SessionId],
}

impl<'a> BatchGetResponse<'a> {
    fn new(UniqueSessionIds(requested): &UniqueSessionIds, found: &'a SessionsFound) -> Self {
        let SessionsFound { sessions, remaining } = found;
        let read = sessions.iter().map(|session| session.id);
        let existing: HashSet<_> = read.chain(remaining.iter().copied()).collect();
        let missing = requested.iter().copied().filter(|id| !existing.contains(id)).collect();
        Self { items: sessions.iter().map(SessionView::from).collect(), missing, remaining }
    }
}

fn request_ids() -> Array {
    let description = "UUIDs with or without hyphens and braces, in either case. A \
                 repeated id counts once, at its first place.";
    ids(ID_PATTERN, REQUEST_ID_EXAMPLE).min_items(Some(1)).description(Some(description)).build()
}

fn response_ids() -> Array {
    let description =
        "The ids that no session of the enterprise has, in the same order, each once.";
    ids(RESPONSE_ID_PATTERN, RESPONSE_ID_EXAMPLE).description(Some(description)).build()
}

fn remaining_ids() -> Array {
    let description = "The ids that were not read because the response would be too large, in the \
                       same order, each once: request them again. The field is present only if the \
                       sessions have more than 10,000 members together; 256 bytes of attributes \
                       count as a member. The first session is always read.";
    ids(RESPONSE_ID_PATTERN, RESPONSE_ID_EXAMPLE).description(Some(description)).build()
}

fn ids(pattern: &str, example: &str) -> ArrayBuilder {
    ArrayBuilder::new().items(text(pattern, example)).max_items(Some(MAX_IDS))
}

/// Read many sessions
///
/// The sessions are read at one moment, dissolved sessions included. An id that no session of the
/// enterprise has is not an error: `missing` lists such ids. Sessions that do not fit into one
/// response are listed in `remaining`: request them again.
#[utoipa::path(
    post,
    path = "/v1/sessions/batch-get",
    operation_id = "batchGetSessions",
    tag = "sessions",
    params(BatchGetRequest),
    request_body = BatchGetBody,
    responses((status = 200, description = "The sessions", body = BatchGetResponse), ErrorResponses<BatchGetRequest>)
)]
pub(crate) async fn get(
    sessions: web::Data<Sessions>,
    request: BatchGetRequest,
) -> Result<HttpResponse, Problem> {
    let (_, MinCursor(cursor), Json(body)) = request.parts;
    let ids = UniqueSessionIds::try_from(body)?;
    request.record.count_items(&request.caller, ids.0.len())?;
    let caller = request.caller;
    let read = async move |sessions: Sessions| {
        let get_many = || sessions.get_many(&caller, &ids.0).boxed();
        let found = sessions.read_after(&caller, cursor, get_many, |_, _| true).await;
        JsonText::new(&BatchGetResponse::new(&ids, &found.map_err(MinCursor::problem)?))
    };
    Ok(sessions.read_in_background(read).await?.into())
}
