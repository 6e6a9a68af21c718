//! `POST /v1/sessions/batch`: many creates and updates in one request. Each is read, checked and
//! done by itself, as if it had come alone; the answers stand in the order of the items.

mod item;

use actix_web::{HttpResponse, web};
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::http::shared::permission::Writes;
use crate::http::v1::extract::authorized::Authorised;
use crate::http::v1::extract::json::Json;
use crate::http::v1::extract::query::{Nothing, Query};
use crate::http::v1::extract::unsupported_headers::PerItem;
use crate::http::v1::problem;
use crate::http::v1::problem::{Code, Problem, Problems};
use crate::http::v1::render::view;
use crate::http::v1::render::view::View;
use crate::service::{Caller, Sessions};
use item::{Described, Finished, Item};

/// The most items of a batch.
pub(crate) const MOST: usize = 100;
/// How many of them are done at once.
const AT_ONCE: usize = 8;

type Asked = Authorised<Writes, (Query<Nothing>, PerItem, Json<Batch>)>;

/// A batch of requests.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "items": [
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
]}))]
pub(crate) struct Batch {
    /// The requests. Items of one session run one after the other, in their order. Other items run
    /// concurrently.
    #[schema(value_type = Vec<Described>, min_items = 1, max_items = 100)]
    items: Vec<Box<RawValue>>,
}

impl TryFrom<Batch> for Vec<Result<Item, Problem>> {
    type Error = Problem;

    fn try_from(batch: Batch) -> Result<Self, Problem> {
        let wrong = |why: &str, limit: usize, got: usize| {
            let why = format!("at {why} {limit}, got {got}");
            Problem::of(Code::InvalidField, "items", why).limited(limit, got)
        };
        match batch.items.len() {
            0 => Err(wrong("least", 1, 0)),
            1..=MOST => Ok(batch.items.iter().map(|item| Item::read(item)).collect()),
            got => Err(wrong("most", MOST, got)),
        }
    }
}

/// The results of a batch, in the order of the items.
#[derive(Serialize, ToSchema)]
#[schema(as = BatchResult, example = json!({ "items": [
    { "status": 201, "session": view::sample() },
    { "status": 412, "error": Problem::sample(Code::VersionConflict).body(None) }
]}))]
struct Results<'a> {
    /// One result for each item, in the same order.
    items: Vec<Outcome<'a>>,
}

/// The result of one item: a session or an error.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = BatchOutcome, example = json!({ "status": 201, "session": view::sample() }))]
struct Outcome<'a> {
    /// The status that a separate request would get.
    #[schema(minimum = 200, maximum = 599)]
    status: u16,
    /// The session after the item, if the item succeeded.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<View<'a>>,
    /// `true` if an earlier request with the same key has executed the item.
    #[schema(required = false, example = true)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replayed: bool,
    /// The error, if the item failed.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<problem::Body<'a>>,
}

impl<'a> From<&'a Finished> for Outcome<'a> {
    fn from(finished: &'a Finished) -> Self {
        let (status, replayed) = match finished {
            Ok((status, done)) => (*status, done.replayed),
            Err(problem) => (problem.status(), false),
        };
        let session = finished.as_ref().ok().map(|(_, done)| View::from(&**done.session));
        let error = finished.as_ref().err().map(|problem| problem.body(None));
        Self { status, session, replayed, error }
    }
}

/// Create and change many sessions
///
/// The response is 200 if the list of items can be read. Each item has its own status. An item that
/// fails does not affect the others.
#[utoipa::path(
    post,
    path = "/v1/sessions/batch",
    operation_id = "batchSessions",
    tag = "sessions",
    params(Asked),
    request_body = Batch,
    responses((status = 200, description = "The results", body = Results), Problems<Asked>)
)]
pub(crate) async fn run(
    sessions: web::Data<Sessions>,
    asked: Asked,
) -> Result<HttpResponse, Problem> {
    let (.., Json(batch)) = asked.parts;
    let groups = by_session(batch.try_into()?);
    let groups = groups.into_iter().map(|group| in_order(&sessions, &asked.caller, group));
    let finished: Vec<_> = stream::iter(groups).buffer_unordered(AT_ONCE).collect().await;
    let mut finished: Vec<_> = finished.into_iter().flatten().collect();
    finished.sort_unstable_by_key(|(place, _)| *place);
    let items = finished.iter().map(|(_, finished)| Outcome::from(finished)).collect();
    let mut response = HttpResponse::Ok().json(Results { items });
    problem::note(finished.iter().filter_map(|(_, one)| one.as_ref().err()), &mut response);
    Ok(response)
}

/// Items with their places.
type Group = Vec<(usize, Result<Item, Problem>)>;

/// Items of one session stay together, everything else is alone.
fn by_session(items: Vec<Result<Item, Problem>>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (place, item) in items.into_iter().enumerate() {
        let session = item.as_ref().ok().and_then(Item::session);
        let same = |group: &&mut Group| {
            let other = group.first().and_then(|(_, other)| other.as_ref().ok()?.session());
            session.is_some() && other == session
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push((place, item)),
            None => groups.push(vec![(place, item)]),
        }
    }
    groups
}

async fn in_order(sessions: &Sessions, caller: &Caller, group: Group) -> Vec<(usize, Finished)> {
    let mut finished = Vec::with_capacity(group.len());
    for (place, item) in group {
        finished.push((
            place,
            match item {
                Ok(item) => item.run(sessions, caller).await,
                Err(problem) => Err(problem),
            },
        ));
    }
    finished
}
