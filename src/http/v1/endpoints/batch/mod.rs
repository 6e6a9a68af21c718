//! `POST /v1/sessions/batch`: many creates and updates in one request. Each item is read, checked
//! and executed like a separate request. The results have the order of the items.

mod item;

use actix_web::{HttpResponse, web};
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::domain::Attributes;
use crate::http::shared::permission::CanWrite;
use crate::http::v1::extract::authorized::Authorized;
use crate::http::v1::extract::bounded_list::BoundedList;
use crate::http::v1::extract::json::Json;
use crate::http::v1::extract::query::{NoParams, Query};
use crate::http::v1::extract::unsupported_headers::NoRequestHeaders;
use crate::http::v1::problem;
use crate::http::v1::problem::{Code, ErrorResponses, Problem};
use crate::http::v1::render::view;
use crate::http::v1::render::view::SessionView;
use crate::service::{Caller, Sessions};
use item::{ItemBody, ItemResult, ParsedItem};

/// The maximum number of items in a batch.
pub(crate) const MAX_ITEMS: usize = 100;
/// The maximum number of members of all sessions in a response. The bytes of
/// [`Attributes::BYTES_PER_MEMBER`] count as a member. The first session may have more.
const MAX_MEMBERS: usize = 10_000;
/// The maximum number of groups of items that run concurrently.
const CONCURRENCY: usize = 8;

type BatchRequest = Authorized<CanWrite, (Query<NoParams>, NoRequestHeaders, Json<Batch>)>;

/// A batch of requests.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!(creates_sample()))]
pub(crate) struct Batch {
    /// The requests. Items of one session run one after the other, in their order. Other items run
    /// concurrently.
    #[schema(value_type = Vec<ItemBody>, min_items = 1, max_items = 100)]
    items: BoundedList<Box<RawValue>, MAX_ITEMS>,
}

/// An example of a batch that needs no session.
fn creates_sample() -> Value {
    json!({ "items": [
        { "create": { "operator": "alice", "title": "Release", "member": ["bob", "carol"] } },
        { "create": { "operator": "alice", "title": "Support", "member": ["dave", "erin"] } }
    ]})
}

/// An example of a batch that changes a session.
fn mixed_sample() -> Value {
    json!({ "items": [
        {
            "create": { "operator": "alice", "title": "Release", "member": ["bob", "carol"] },
            "idempotencyKey": "8e03978e-40d5-43dd-bc93-6894a57f9324"
        },
        {
            "update": {
                "sessionId": "{8AD595F3-73B3-4B56-90AF-F336F9222FC5}", "version": 4,
                "operator": "alice", "title": "Release 2.0"
            }
        }
    ]})
}

impl Batch {
    /// Reads the items. A list of accounts has at most `max_members`.
    fn read(self, max_members: usize) -> Result<Vec<Result<ParsedItem, Problem>>, Problem> {
        let items = self.items.read("items")?;
        Ok(items.iter().map(|item| ParsedItem::read(item, max_members)).collect())
    }
}

/// The results of a batch, in the order of the items.
#[derive(Serialize, ToSchema)]
#[schema(as = BatchResult, example = json!({ "items": [
    { "status": 201, "session": view::sample() },
    { "status": 412, "error": Problem::sample(Code::VersionConflict).body(None) }
]}))]
struct BatchResponse<'a> {
    /// One result for each item, in the same order.
    items: Vec<ItemResponse<'a>>,
}

/// The result of one item: a session, its id and version, or an error.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = BatchOutcome, example = json!({ "status": 201, "session": view::sample() }))]
struct ItemResponse<'a> {
    /// The status that a separate request would get.
    #[schema(minimum = 200, maximum = 599)]
    status: u16,
    /// The session after the item, if the item succeeded. An app without `sessions:read` gets it only
    /// after a create.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<SessionView<'a>>,
    /// The id of the session, in place of `session`: the item succeeded, but the app may not read
    /// sessions, or the response would be too large. The sessions of a response have at most 10,000
    /// members together; 256 bytes of attributes count as a member. The first session is always there.
    #[schema(
        nullable = false,
        example = "{8AD595F3-73B3-4B56-90AF-F336F9222FC5}",
        pattern = r"^\{[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}\}$"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
    /// The version of the session after the item, beside `sessionId`.
    #[schema(nullable = false, minimum = 1, example = 2)]
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<i64>,
    /// `true` if an earlier request with the same key has executed the item.
    #[schema(required = false, example = true)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replayed: bool,
    /// The error, if the item failed.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<problem::ProblemBody<'a>>,
}

impl<'a> ItemResponse<'a> {
    /// The result of an item after results with sessions of `members` members together, which grow by
    /// the session of this one.
    fn new(result: &'a ItemResult, members: &mut usize) -> Self {
        let mut response = Self {
            status: 0,
            session: None,
            session_id: None,
            version: None,
            replayed: false,
            error: None,
        };
        match result {
            Ok((status, outcome)) => {
                (response.status, response.replayed) = (*status, outcome.replayed);
                let is_first = *members == 0;
                let readable = outcome.session.as_ref().map(|session| &***session);
                let fitting = readable.filter(|session| {
                    *members += session.members.len()
                        + session.attributes.json_len() / Attributes::BYTES_PER_MEMBER;
                    is_first || *members <= MAX_MEMBERS
                });
                if let Some(session) = fitting {
                    response.session = Some(SessionView::from(session));
                } else {
                    response.session_id = Some(outcome.session_id.to_string());
                    response.version = Some(outcome.version.get());
                }
            }
            Err(problem) => {
                response.status = problem.status();
                response.error = Some(problem.body(None));
            }
        }
        response
    }
}

/// Create and change many sessions
///
/// The response is 200 if the list of items can be read. Each item has its own status. An item that
/// fails does not affect the others. If the sessions are so large that they do not fit into one
/// response, the later ones are only named.
#[utoipa::path(
    post,
    path = "/v1/sessions/batch",
    operation_id = "batchSessions",
    tag = "sessions",
    params(BatchRequest),
    request_body(
        content = Batch,
        // The documentation page sends the first example, so that one must not name a session.
        examples(
            ("creates" = (summary = "Create two sessions", value = json!(creates_sample()))),
            ("mixed" = (summary = "Create a session and change another", value = json!(mixed_sample())))
        )
    ),
    responses((status = 200, description = "The results", body = BatchResponse), ErrorResponses<BatchRequest>)
)]
pub(crate) async fn batch_sessions(
    sessions: web::Data<Sessions>,
    mut request: BatchRequest,
) -> Result<HttpResponse, Problem> {
    let (.., Json(batch)) = request.parts;
    let items = batch.read(sessions.rules().max_members)?;
    let sizes = items.iter().flatten().map(ParsedItem::attributes_size);
    request.memory.count(sizes.sum())?;
    request.record.count_items(&request.caller, items.len())?;
    let groups = by_session(items);
    let groups =
        groups.into_iter().map(|group| run_sequentially(&sessions, &request.caller, group));
    let results: Vec<_> = stream::iter(groups).buffer_unordered(CONCURRENCY).collect().await;
    let mut results: Vec<_> = results.into_iter().flatten().collect();
    results.sort_unstable_by_key(|(index, _)| *index);
    let mut members = 0;
    let items = results.iter().map(|(_, result)| ItemResponse::new(result, &mut members)).collect();
    let mut response = HttpResponse::Ok().json(BatchResponse { items });
    problem::report_causes(
        results.iter().filter_map(|(_, result)| result.as_ref().err()),
        &mut response,
    );
    Ok(response)
}

/// Items with their indexes in the batch.
type IndexedItems = Vec<(usize, Result<ParsedItem, Problem>)>;

/// Groups the items of each session. Any other item is a group of its own.
fn by_session(items: Vec<Result<ParsedItem, Problem>>) -> Vec<IndexedItems> {
    let mut groups: Vec<IndexedItems> = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let session = item.as_ref().ok().and_then(ParsedItem::session);
        let is_same_session = |group: &&mut IndexedItems| {
            let other = group.first().and_then(|(_, other)| other.as_ref().ok()?.session());
            session.is_some() && other == session
        };
        match groups.iter_mut().find(is_same_session) {
            Some(group) => group.push((index, item)),
            None => groups.push(vec![(index, item)]),
        }
    }
    groups
}

async fn run_sequentially(
    sessions: &Sessions,
    caller: &Caller,
    group: IndexedItems,
) -> Vec<(usize, ItemResult)> {
    let mut results = Vec::with_capacity(group.len());
    for (index, item) in group {
        results.push((
            index,
            match item {
                Ok(item) => item.run(sessions, caller).await,
                Err(problem) => Err(problem),
            },
        ));
    }
    results
}
