//! `GET /v1/events`: the changes, page by page.

use actix_web::http::header::{CACHE_CONTROL, ContentType};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, schema::Type};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::page_view::{FeedPageView, RenderedPage};
use super::{parse, stream, wait};
use crate::domain::{Account, FeedFilter, quoted};
use crate::http::shared::permission::CanRead;
use crate::http::v1::extract::authorized::Authorized;
use crate::http::v1::extract::last_event_id::LastEventId;
use crate::http::v1::extract::query::Query;
use crate::http::v1::extract::seconds::{self, MAX_WAIT_SECONDS};
use crate::http::v1::extract::text::AccountText;
use crate::http::v1::problem::{Code, ErrorCodes, ErrorResponses, Problem};
use crate::http::v1::render::event_stream;
use crate::http::v1::render::event_view::EventKindSchema;
use crate::service::{FeedQuery, FeedStart, Sessions};

type FeedRequest = Authorized<CanRead, (Query<FeedParams>, LastEventId)>;

/// The maximum number of changes in a page.
const MAX_LIMIT: i64 = 1_000;
/// The maximum number of changes in a page if the request has no `limit`.
const DEFAULT_LIMIT: i64 = 100;
/// The maximum number of sessions in a page of a snapshot.
const MAX_SESSIONS: usize = 200;

/// The query: the start, the filter and the size of the page.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct FeedParams {
    /// The start: `nextCursor` of a page or `cursor` of a change; or `0` for the beginning of the
    /// history; or a time (RFC 3339), then every change that is later follows. Without the parameter
    /// the page starts after the last change. Write a `+` as `%2B`.
    #[param(max_length = 128, example = "0")]
    after: Option<String>,
    /// The maximum number of changes in the page. A page of a snapshot has at most 200 sessions.
    #[param(minimum = 1, maximum = 1000, default = 100, example = 100)]
    limit: Option<i64>,
    /// How long the request waits for a change if the page would have none, `1s` to `60s`. The
    /// response comes with the next change, or without one after this time.
    #[param(pattern = "^[0-9]{1,2}s$", example = "30s")]
    wait: Option<String>,
    /// Only changes of sessions in which this account is a member before or after the change. The
    /// change that removes the member is among them.
    #[param(value_type = Option<AccountText>)]
    member: Option<String>,
    /// Only changes of sessions of which this account is the owner before or after the change.
    #[param(value_type = Option<AccountText>)]
    owner: Option<String>,
    /// Only changes of this session: a UUID.
    #[param(example = "{8AD595F3-73B3-4B56-90AF-F336F9222FC5}")]
    session_id: Option<String>,
    /// Only changes of this kind.
    #[param(value_type = Option<EventKindSchema>)]
    kind: Option<String>,
    /// Only changes that this app made.
    #[param(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]+$", example = "yd0123")]
    app: Option<String>,
    /// `session`: each change comes with the session after it.
    #[param(value_type = Option<Included>, inline, example = "session")]
    include: Option<String>,
    /// `true`: the present sessions come first, and then the changes. The request has no `after`.
    /// Continue with `nextCursor`, without this parameter. Filters: `member`, `owner` and
    /// `sessionId`.
    #[serde(default)]
    #[param(default = false, example = true)]
    snapshot: bool,
}

/// The addition to each change, in the description.
struct Included;

impl PartialSchema for Included {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["session"])).into()
    }
}

impl ToSchema for Included {}

impl TryFrom<FeedParams> for FeedQuery {
    type Error = Problem;

    fn try_from(params: FeedParams) -> Result<Self, Problem> {
        let account = |name: &str, text: Option<String>| {
            let account = text.as_deref().map(Account::new).transpose();
            account.map_err(|error| Problem::invalid(Code::InvalidParameter, name, &error))
        };
        let parse_session = |text: &str| {
            text.parse()
                .map_err(|error| Problem::invalid(Code::InvalidSessionId, "sessionId", &error))
        };
        let parse_app = |text: &str| {
            text.parse().map_err(|error| Problem::invalid(Code::InvalidParameter, "app", &error))
        };
        let kind =
            params.kind.as_deref().map(|text| parse::kind(Code::InvalidParameter, "kind", text));
        let filter = FeedFilter {
            member: account("member", params.member)?,
            owner: account("owner", params.owner)?,
            session: params.session_id.as_deref().map(parse_session).transpose()?,
            kind: kind.transpose()?,
            app: params.app.as_deref().map(parse_app).transpose()?,
        };
        let limit = limit(params.limit)?;
        let start = match (params.snapshot, params.after.as_deref()) {
            (true, Some(_)) => return Err(refuse_beside_snapshot("after")),
            (true, None) => FeedStart::Snapshot,
            (false, None) => FeedStart::Head,
            (false, Some(text)) => parse::start(text)?,
        };
        if is_in_snapshot(start) && filter.kind.is_some() {
            return Err(refuse_beside_snapshot("kind"));
        }
        if is_in_snapshot(start) && filter.app.is_some() {
            return Err(refuse_beside_snapshot("app"));
        }
        let include_session = match params.include.as_deref() {
            None => false,
            Some("session") => true,
            Some(other) => {
                let reason = format!("must be session, got {}", quoted(other));
                return Err(Problem::for_field(Code::InvalidParameter, "include", reason));
            }
        };
        let limit = if is_in_snapshot(start) { limit.min(MAX_SESSIONS) } else { limit };
        Ok(Self { start, filter, limit, include_session })
    }
}

fn is_in_snapshot(start: FeedStart) -> bool {
    match start {
        FeedStart::Snapshot => true,
        FeedStart::Cursor(cursor) => cursor.snapshot.is_some(),
        FeedStart::Head | FeedStart::Beginning | FeedStart::Time(_) => false,
    }
}

fn refuse_beside_snapshot(parameter: &str) -> Problem {
    let reason = "must not be combined with a snapshot";
    Problem::for_field(Code::InvalidParameter, parameter, reason)
}

fn limit(requested: Option<i64>) -> Result<usize, Problem> {
    let requested = requested.unwrap_or(DEFAULT_LIMIT);
    let (side, limit) = match requested {
        ..1 => ("least", 1),
        1..=MAX_LIMIT => return Ok(usize::try_from(requested).unwrap_or_default()),
        _ => ("most", MAX_LIMIT),
    };
    let reason = format!("at {side} {limit}, got {requested}");
    Err(Problem::for_field(Code::InvalidParameter, "limit", reason).with_limit(limit, requested))
}

/// The error codes of the endpoint, beside those of the request.
struct FeedErrors;

impl ErrorCodes for FeedErrors {
    fn codes() -> Vec<Code> {
        vec![Code::InvalidSessionId, Code::CursorExpired]
    }
}

/// The changes of all sessions
///
/// Every change of every session of the enterprise that matches all filters, in one order that never
/// changes, without a gap and without a repeat. Ask again with `nextCursor` for what follows. A page
/// is shorter than `limit` if its changes would exceed 1 MiB, or if many changes had to be examined.
///
/// A cursor is valid forever, on every server, also with other filters. It expires if the database
/// was restored from a backup: the problem `cursor_expired` names the path that begins again.
///
/// With `Accept: text/event-stream` the response is a stream that does not end: an event `change` with
/// the same JSON for each change, and an event `bookmark` with a cursor at least every 5 s. The `id` of
/// each event is a cursor, and `Last-Event-ID` resumes a stream. `limit` has no effect on a stream.
#[utoipa::path(
    get,
    path = "/v1/events",
    operation_id = "followEvents",
    tag = "history",
    params(FeedRequest),
    responses(
        (
            status = 200, description = "A page, or a stream of events",
            content(
                (FeedPageView = "application/json"),
                (String = "text/event-stream", example = json!(stream::SAMPLE))
            )
        ),
        ErrorResponses<(FeedRequest, FeedErrors)>
    )
)]
pub(crate) async fn list(
    sessions: web::Data<Sessions>,
    http: HttpRequest,
    request: FeedRequest,
) -> Result<HttpResponse, Problem> {
    let (Query(mut params), LastEventId(last)) = request.parts;
    let is_stream = event_stream::is_requested(&http);
    if let Some(last) = last.filter(|_| is_stream) {
        (params.after, params.snapshot) = (Some(last.encode()), false);
    }
    let read_wait = |text| seconds::read(Code::InvalidParameter, "wait", text, MAX_WAIT_SECONDS);
    let wait = params.wait.take().as_deref().map(read_wait).transpose()?;
    let query = params.try_into()?;
    if is_stream {
        if wait.is_some() {
            let reason = "must not be combined with a stream";
            return Err(Problem::for_field(Code::InvalidParameter, "wait", reason));
        }
        return stream::respond(http, sessions, &request.caller, query).await;
    }
    let (caller, page) = match wait {
        Some(wait) => {
            let page = wait::page(&http, &sessions, &request.caller, query, wait).await?;
            (request.caller, RenderedPage::new(&page))
        }
        None => {
            let caller = request.caller;
            let read = async move |sessions: Sessions| {
                let page = sessions.feed_page(&caller, query).await?;
                Ok::<_, Problem>((caller, RenderedPage::new(&page)))
            };
            sessions.read_in_background(read).await?
        }
    };
    request.record.charge_page(&caller, page.sessions);
    Ok(HttpResponse::Ok()
        .content_type(ContentType::json())
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(page.json))
}
