//! `POST /v1/consumers/{name}/fetch`: a member takes events. If no event is free, the request can wait.
//!
//! A wait ends early if the credential is no longer valid, or if the server stops.

use std::io::Write as _;
use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, ContentType};
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{PlaceErrors, input};
use crate::domain::{ConsumerLimits, ConsumerMember, ConsumerName, FeedEvent, LeasedEvent};
use crate::http::shared::permission::CanRead;
use crate::http::v1::endpoints::feed::view::{self, FeedEventView};
use crate::http::v1::endpoints::feed::wait;
use crate::http::v1::extract::authorized::Authorized;
use crate::http::v1::extract::json::Json;
use crate::http::v1::extract::number::WholeNumber;
use crate::http::v1::extract::path::ConsumerPath;
use crate::http::v1::extract::query::{NoParams, Query};
use crate::http::v1::extract::reading_caller::ReadingCaller;
use crate::http::v1::extract::request_record::RequestRecord;
use crate::http::v1::extract::seconds::{self, MAX_WAIT_SECONDS};
use crate::http::v1::problem::{Code, ErrorResponses, Problem};
use crate::http::v1::render::view::rfc3339;
use crate::service::{Caller, FetchState, FetchedEvents, Sessions};

type FetchRequest = Authorized<CanRead, (ConsumerPath, Query<NoParams>, Json<FetchBody>)>;

/// The number of events of a fetch that names none.
const DEFAULT_MAX: i64 = 50;

/// The member, and the number of events that it takes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ConsumerFetch, example = json!({ "member": "worker-1", "max": 50 }))]
pub(crate) struct FetchBody {
    /// The member: a name of the caller's choice, the same for all its requests. Two processes must not
    /// use one name at the same time.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$", example = "worker-1")]
    member: String,
    /// The maximum number of events. The events of a fetch have at most 1 MiB, but at least one is
    /// returned.
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 200, default = 50, example = 50)]
    max: Option<WholeNumber>,
    /// The time to wait if there is no event, from `1s` to `60s`. Without it the response comes at once.
    #[schema(pattern = "^[0-9]{1,2}s$", example = "20s")]
    wait: Option<String>,
}

/// An event that the member has for the lease of the consumer.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LeasedEvent)]
#[expect(dead_code, reason = "only describes the events of a fetch")]
struct LeasedEventSchema<'a> {
    /// The number of times that the event was handed out, this time included. More than 1: a member may
    /// have done it before.
    #[schema(minimum = 1, example = 1)]
    attempt: u32,
    /// The time at which the lease ends. Another member gets the event afterwards, if it is not
    /// acknowledged.
    #[schema(format = DateTime, example = "2024-06-10T06:13:45.000000Z")]
    lease_until: String,
    #[serde(flatten)]
    event: FeedEventView<'a>,
}

/// The events that the member has now.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = FetchedEvents, example = json!({ "events": [], "state": "caughtUp" }))]
struct FetchedView {
    /// The events, in the order of their numbers.
    #[schema(value_type = Vec<LeasedEventSchema>, required = true, max_items = 200)]
    #[serde(skip)]
    _events: (),
    state: FetchStateView,
}

/// `more`: there may be further events, fetch again. `caughtUp`: all changes were read. `full`: 1,000
/// events are leased or ready, or 10,000 are parked or wait behind parked ones; further changes are
/// selected when there are fewer.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = FetchState)]
enum FetchStateView {
    /// There may be further events.
    More,
    /// All changes were read.
    CaughtUp,
    /// Too many events are selected.
    Full,
}

/// A fetch.
struct Fetch {
    name: ConsumerName,
    member: ConsumerMember,
    max: usize,
    wait: Duration,
}

impl TryFrom<(ConsumerName, FetchBody)> for Fetch {
    type Error = Problem;

    fn try_from((name, body): (ConsumerName, FetchBody)) -> Result<Self, Problem> {
        let member = input::member(&body.member)?;
        let max = body.max.map_or(DEFAULT_MAX, |WholeNumber(max)| max);
        let read_wait = |text| seconds::read(Code::InvalidField, "wait", text, MAX_WAIT_SECONDS);
        let wait = body.wait.as_deref().map(read_wait);
        let (side, limit) =
            if max < 1 { ("least", 1) } else { ("most", ConsumerLimits::MAX_FETCH) };
        match usize::try_from(max) {
            Ok(max @ 1..=ConsumerLimits::MAX_FETCH) => {
                Ok(Self { name, member, max, wait: wait.transpose()?.unwrap_or_default() })
            }
            _ => {
                let reason = format!("at {side} {limit}, got {max}");
                Err(Problem::for_field(Code::InvalidField, "max", reason).with_limit(limit, max))
            }
        }
    }
}

/// Fetch events
///
/// The events belong to the member until their lease ends. The member does its work, and acknowledges them.
/// Events that it does not acknowledge are handed out again, to any member.
///
/// While a member has events of a session, no other event of the session is handed out. So the events of a
/// session are done in their order, by one member at a time. An event that was handed out ten times without
/// an acknowledgement is parked, and the later events of its session wait until it is released.
#[utoipa::path(
    post,
    path = "/v1/consumers/{name}/fetch",
    operation_id = "fetchEvents",
    tag = "consumers",
    params(FetchRequest),
    request_body = FetchBody,
    responses(
        (status = 200, description = "The events", body = FetchedView),
        ErrorResponses<(FetchRequest, PlaceErrors)>
    )
)]
pub(crate) async fn fetch(
    sessions: web::Data<Sessions>,
    request: FetchRequest,
) -> Result<HttpResponse, Problem> {
    let (ConsumerPath(name), _, Json(body)) = request.parts;
    let fetch = Fetch::try_from((name, body))?;
    let fetched = fetch_or_wait(&sessions, request.caller, &request.record, &fetch).await?;
    Ok(HttpResponse::Ok()
        .content_type(ContentType::json())
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(render(fetched)))
}

/// Fetches events, at once or when there are some.
async fn fetch_or_wait(
    sessions: &Sessions,
    mut caller: Caller,
    record: &RequestRecord,
    fetch: &Fetch,
) -> Result<FetchedEvents, Problem> {
    let Fetch { name, member, max, wait } = fetch;
    let http = record.request();
    let reader = ReadingCaller::new(http)?;
    let deadline = Instant::now() + *wait;
    let mut waiting = match wait.is_zero() {
        true => None,
        false => Some(sessions.begin_wait(&caller, name)?),
    };
    loop {
        let fetched = sessions.fetch_events(&caller, name, member, *max).await?;
        let is_over = !fetched.events.is_empty() || Instant::now() >= deadline;
        let Some(waiting) = waiting.as_mut().filter(|_| !is_over) else { return Ok(fetched) };
        sessions.listen_for_events(&caller, waiting, &fetched.filter)?;
        while !sessions.check_for_events(&caller, waiting).await? {
            if wait::changed(http, &reader, deadline, waiting.woken()).await?.is_none() {
                return Ok(fetched);
            }
            caller = reader.authenticate_again()?;
        }
        // The next fetch has as much time as the first one.
        caller = reader.authenticate_again()?;
        record.restart_timeout();
    }
}

fn render(fetched: FetchedEvents) -> Vec<u8> {
    let mut body = br#"{"events":["#.to_vec();
    for (index, (leased, cursor)) in fetched.events.into_iter().enumerate() {
        let separator = if index > 0 { "," } else { "" };
        let LeasedEvent { seq, prev_seq, session_id, event, attempt, lease_until } = leased;
        let until = rfc3339(lease_until);
        // A write into memory cannot fail.
        let _ = write!(body, r#"{separator}{{"attempt":{attempt},"leaseUntil":"{until}","#);
        let tail = view::render_tail(&FeedEvent { seq, session_id, event }, None);
        let mut rest = Vec::with_capacity(tail.len() + 128);
        view::write_event(&mut rest, seq, prev_seq, &cursor, &tail);
        body.extend_from_slice(rest.strip_prefix(b"{").unwrap_or_default());
    }
    let state = match fetched.state {
        FetchState::More => FetchStateView::More,
        FetchState::CaughtUp => FetchStateView::CaughtUp,
        FetchState::Full => FetchStateView::Full,
    };
    // Text can always be written as JSON.
    let rest = serde_json::to_string(&FetchedView { _events: (), state }).unwrap_or_default();
    let _ = write!(body, "],{}", rest.strip_prefix('{').unwrap_or_default());
    body
}
