//! `POST /v1/sessions/batch-get`: many sessions by their ids, in one statement.

use std::collections::HashSet;

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;
use utoipa::openapi::{Array, ArrayBuilder};

use crate::domain::{Session, SessionId};
use crate::http::shared::permission::Reads;
use crate::http::v1::extract::authorized::Authorised;
use crate::http::v1::extract::json::Json;
use crate::http::v1::extract::parameter::text;
use crate::http::v1::extract::path::ID_PATTERN;
use crate::http::v1::extract::query::{Nothing, Query};
use crate::http::v1::problem::{Code, Problem, Problems};
use crate::http::v1::render::view;
use crate::http::v1::render::view::View;
use crate::service::Sessions;

/// The most sessions that are read at once.
pub(crate) const MOST: usize = 200;

/// An id as a caller may write it, and as answers have it.
const ASKED: &str = "8ad595f3-73b3-4b56-90af-f336f9222fc5";
const TOLD: &str = "{8AD595F3-73B3-4B56-90AF-F336F9222FC5}";
const TOLD_PATTERN: &str = r"^\{[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}\}$";

type Asked = Authorised<Reads, (Query<Nothing>, Json<Wanted>)>;

/// The sessions to read.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SessionIds, example = json!({ "ids": [
    "{8AD595F3-73B3-4B56-90AF-F336F9222FC5}", "01900c5e-7a00-7000-8000-000000000001"
]}))]
pub(crate) struct Wanted {
    #[schema(schema_with = asked_ids)]
    ids: Vec<String>,
}

/// Different ids, in the order of a body.
struct Ids(Vec<SessionId>);

impl TryFrom<Wanted> for Ids {
    type Error = Problem;

    fn try_from(wanted: Wanted) -> Result<Self, Problem> {
        let wrong = |side: &str, limit: usize, got: usize| {
            let why = format!("at {side} {limit}, got {got}");
            Problem::of(Code::InvalidField, "ids", why).limited(limit, got)
        };
        match wanted.ids.len() {
            0 => return Err(wrong("least", 1, 0)),
            1..=MOST => {}
            got => return Err(wrong("most", MOST, got)),
        }
        let one = |(place, text): (usize, &String)| {
            let id = text.parse::<SessionId>();
            id.map_err(|why| Problem::invalid(Code::InvalidField, format!("ids[{place}]"), &why))
        };
        let ids: Vec<_> = wanted.ids.iter().enumerate().map(one).collect::<Result<_, _>>()?;
        let mut seen = HashSet::new();
        Ok(Self(ids.into_iter().filter(|id| seen.insert(*id)).collect()))
    }
}

/// The sessions that were found, and the ids of the others.
#[derive(Serialize, ToSchema)]
#[schema(as = SessionsFound, example = json!({
    "items": [view::sample()], "missing": ["{01900C5E-7A00-7000-8000-000000000001}"]
}))]
struct Found<'a> {
    /// The sessions, in the order of the ids, each once.
    #[schema(max_items = 200)]
    items: Vec<View<'a>>,
    #[schema(schema_with = told_ids)]
    #[serde(serialize_with = "as_texts")]
    missing: Vec<SessionId>,
}

impl<'a> Found<'a> {
    fn new(Ids(asked): &Ids, sessions: &'a [Session]) -> Self {
        let found: HashSet<_> = sessions.iter().map(|session| session.id).collect();
        let missing = asked.iter().copied().filter(|id| !found.contains(id)).collect();
        Self { items: sessions.iter().map(View::from).collect(), missing }
    }
}

fn as_texts<S: Serializer>(ids: &[SessionId], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(ids.iter().map(ToString::to_string))
}

fn asked_ids() -> Array {
    let about = "UUIDs with or without hyphens and braces, in either case. A \
                 repeated id counts once, at its first place.";
    ids(ID_PATTERN, ASKED).min_items(Some(1)).description(Some(about)).build()
}

fn told_ids() -> Array {
    let about = "The ids that no session of the enterprise has, in the same order, each once.";
    ids(TOLD_PATTERN, TOLD).description(Some(about)).build()
}

fn ids(pattern: &str, example: &str) -> ArrayBuilder {
    ArrayBuilder::new().items(text(pattern, example)).max_items(Some(MOST))
}

/// Read many sessions
///
/// The sessions are read at one moment, dissolved sessions included. An id that no session of the
/// enterprise has is not an error: `missing` lists such ids.
#[utoipa::path(
    post,
    path = "/v1/sessions/batch-get",
    operation_id = "batchGetSessions",
    tag = "sessions",
    params(Asked),
    request_body = Wanted,
    responses((status = 200, description = "The sessions", body = Found), Problems<Asked>)
)]
pub(crate) async fn get(
    sessions: web::Data<Sessions>,
    asked: Asked,
) -> Result<HttpResponse, Problem> {
    let (_, Json(wanted)) = asked.parts;
    let ids = Ids::try_from(wanted)?;
    let found = sessions.get_many(&asked.caller, &ids.0).await?;
    Ok(HttpResponse::Ok().json(Found::new(&ids, &found)))
}
