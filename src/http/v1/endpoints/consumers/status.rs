//! `GET /v1/consumers` and `GET /v1/consumers/{name}`: consumers and their progress.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, web};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::ConsumerErrors;
use super::input::FilterView;
use crate::domain::{ConsumerState, FeedSeq, MemberLeases, ParkedEvent};
use crate::http::shared::permission::CanRead;
use crate::http::v1::extract::authorized::Authorized;
use crate::http::v1::extract::path::ConsumerPath;
use crate::http::v1::extract::query::{NoParams, Query};
use crate::http::v1::problem::{ErrorResponses, Problem};
use crate::http::v1::render::view::rfc3339;
use crate::service::{ConsumerDetails, FeedCursor, Sessions};

type ConsumersRequest = Authorized<CanRead, Query<NoParams>>;
type ConsumerStateRequest = Authorized<CanRead, (ConsumerPath, Query<NoParams>)>;

/// An example of a consumer, for the description.
fn sample() -> Value {
    json!({
        "name": "mirror", "filter": { "member": "alice" }, "lease": "15s", "expired": false,
        "position": 5, "headSeq": 9, "lag": 4,
        "oldestUnacknowledged": { "seq": 6, "at": "2024-06-10T06:13:30.000000Z" },
        "leased": 2, "ready": 0, "parked": 0, "waiting": 0,
        "createdAt": "2024-06-10T06:00:00.000000Z", "usedAt": "2024-06-10T06:00:00.000000Z",
        "members": [{ "member": "worker-1", "leased": 2, "leaseUntil": "2024-06-10T06:13:45.000000Z" }],
        "parkedEvents": []
    })
}

/// A consumer and its progress.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Consumer, example = json!(sample()))]
pub(crate) struct ConsumerView {
    /// The name.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$", example = "mirror")]
    name: String,
    filter: FilterView,
    /// The time for which a member has the events that it fetched.
    #[schema(pattern = "^[0-9]{1,5}s$", example = "15s")]
    lease: String,
    /// Whether the position belongs to another history of the database. The consumer must be reset.
    expired: bool,
    /// Every change up to this number is acknowledged, or does not match the filter.
    #[schema(minimum = 0)]
    position: i64,
    /// The number of the last change of the enterprise, whether it matches the filter or not.
    #[schema(minimum = 0)]
    head_seq: i64,
    /// The number of changes of the enterprise after `position`, whether they match the filter or not.
    #[schema(minimum = 0)]
    lag: u64,
    /// The oldest event that is selected and not acknowledged; `null` if all are acknowledged.
    #[schema(required = true)]
    oldest_unacknowledged: Option<OldestView>,
    /// The number of events that members have under a lease.
    #[schema(minimum = 0)]
    leased: u64,
    /// The number of events that a member may get: they are selected, and neither leased nor held back.
    #[schema(minimum = 0)]
    ready: u64,
    /// The number of events that failed ten times. They are handed out again when they are released.
    #[schema(minimum = 0)]
    parked: u64,
    /// The number of events that wait because an earlier one of their session is parked.
    #[schema(minimum = 0)]
    waiting: u64,
    /// The time at which the consumer was created.
    #[schema(format = DateTime)]
    created_at: String,
    /// The time of the last use, up to an hour earlier. A consumer that is not used for 30 days is removed.
    #[schema(format = DateTime)]
    used_at: String,
    /// The members that have events, by name, at most 100.
    #[schema(max_items = 100)]
    members: Vec<MemberLeasesView>,
    /// The parked events, the oldest first, at most 100.
    #[schema(max_items = 100)]
    parked_events: Vec<ParkedView>,
}

/// A consumer in a list, without its members and its parked events.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ConsumerList, example = json!({ "items": [sample()] }))]
struct ConsumerListView {
    /// The consumers of the app, by name. `members` and `parkedEvents` are empty here.
    #[schema(max_items = 100)]
    items: Vec<ConsumerView>,
}

/// An event that is not acknowledged.
#[derive(Serialize, ToSchema)]
#[schema(as = UnacknowledgedEvent, example = json!({ "seq": 6, "at": "2024-06-10T06:13:30.000000Z" }))]
struct OldestView {
    /// Its number.
    #[schema(minimum = 1)]
    seq: i64,
    /// The time at which it got its number.
    #[schema(format = DateTime)]
    at: String,
}

/// A member that has events.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ConsumerMember, example = json!({
    "member": "worker-1", "leased": 2, "leaseUntil": "2024-06-10T06:13:45.000000Z"
}))]
struct MemberLeasesView {
    /// The name of the member.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    member: String,
    /// The number of its events.
    #[schema(minimum = 1)]
    leased: u64,
    /// The time at which its first lease ends. Other members get the events afterwards.
    #[schema(format = DateTime)]
    lease_until: String,
}

/// An event that failed ten times.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ParkedEvent, example = json!({
    "seq": 7, "cursor": "AQECAwQFBgcIAAAAAAAAAAcBAgME",
    "sessionId": "{8AD595F3-73B3-4B56-90AF-F336F9222FC5}", "version": 2, "attempts": 10,
    "member": "worker-1", "parkedAt": "2024-06-10T06:16:00.000000Z"
}))]
struct ParkedView {
    /// Its number.
    #[schema(minimum = 1)]
    seq: i64,
    /// Its cursor, for a release of this event.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,128}$")]
    cursor: String,
    /// Its session: a UUID, upper case, in braces.
    session_id: String,
    /// The version that the change made.
    #[schema(minimum = 1)]
    version: i64,
    /// The number of times that it was handed out.
    #[schema(minimum = 1)]
    attempts: u32,
    /// The last member that had it.
    #[schema(required = true)]
    member: Option<String>,
    /// The time at which it was parked.
    #[schema(format = DateTime)]
    parked_at: String,
}

impl From<&ConsumerState> for ConsumerView {
    fn from(state: &ConsumerState) -> Self {
        let consumer = &state.consumer;
        Self {
            name: consumer.name.to_string(),
            filter: FilterView::from(&consumer.filter),
            lease: format!("{}s", consumer.lease.seconds()),
            expired: state.is_expired,
            position: state.position().get(),
            head_seq: state.head.get(),
            lag: state.lag(),
            oldest_unacknowledged: state
                .oldest
                .map(|(seq, at)| OldestView { seq: FeedSeq::get(seq), at: rfc3339(at) }),
            leased: state.leased,
            ready: state.ready,
            parked: state.parked,
            waiting: state.waiting,
            created_at: rfc3339(consumer.created_at),
            used_at: rfc3339(consumer.used_at),
            members: state.members.iter().map(MemberLeasesView::from).collect(),
            parked_events: Vec::new(),
        }
    }
}

impl From<&ConsumerDetails> for ConsumerView {
    fn from(details: &ConsumerDetails) -> Self {
        let parked_events = details.parked.iter().map(ParkedView::from).collect();
        Self { parked_events, ..Self::from(&details.state) }
    }
}

impl From<&MemberLeases> for MemberLeasesView {
    fn from(leases: &MemberLeases) -> Self {
        Self {
            member: leases.member.clone(),
            leased: leases.events,
            lease_until: rfc3339(leases.lease_until),
        }
    }
}

impl From<&(ParkedEvent, FeedCursor)> for ParkedView {
    fn from((event, cursor): &(ParkedEvent, FeedCursor)) -> Self {
        Self {
            seq: event.seq.get(),
            cursor: cursor.encode(),
            session_id: event.session_id.to_string(),
            version: event.version.get(),
            attempts: event.attempts,
            member: event.member.clone(),
            parked_at: rfc3339(event.parked_at),
        }
    }
}

/// List the consumers of the app
#[utoipa::path(
    get,
    path = "/v1/consumers",
    operation_id = "listConsumers",
    tag = "consumers",
    params(ConsumersRequest),
    responses(
        (status = 200, description = "The consumers", body = ConsumerListView),
        ErrorResponses<ConsumersRequest>
    )
)]
pub(crate) async fn list(
    sessions: web::Data<Sessions>,
    request: ConsumersRequest,
) -> Result<HttpResponse, Problem> {
    let found = sessions.consumers(&request.caller).await?;
    let items = found.iter().map(ConsumerView::from).collect();
    let mut response = HttpResponse::Ok();
    Ok(response.insert_header((CACHE_CONTROL, "no-store")).json(ConsumerListView { items }))
}

/// A consumer of the app, its members and its parked events
#[utoipa::path(
    get,
    path = "/v1/consumers/{name}",
    operation_id = "getConsumer",
    tag = "consumers",
    params(ConsumerStateRequest),
    responses(
        (status = 200, description = "The consumer", body = ConsumerView),
        ErrorResponses<(ConsumerStateRequest, ConsumerErrors)>
    )
)]
pub(crate) async fn get(
    sessions: web::Data<Sessions>,
    request: ConsumerStateRequest,
) -> Result<HttpResponse, Problem> {
    let (ConsumerPath(name), _) = request.parts;
    let details = sessions.consumer(&request.caller, &name).await?;
    let mut response = HttpResponse::Ok();
    Ok(response.insert_header((CACHE_CONTROL, "no-store")).json(ConsumerView::from(&details)))
}
