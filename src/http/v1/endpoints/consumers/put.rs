//! `PUT /v1/consumers/{name}`: creates a consumer, or gives it another filter.

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;

use super::input::{self, FilterInput};
use super::status::ConsumerView;
use crate::domain::{ConsumerLease, FeedFilter};
use crate::http::shared::permission::CanRead;
use crate::http::v1::extract::authorized::Authorized;
use crate::http::v1::extract::json::Json;
use crate::http::v1::extract::path::ConsumerPath;
use crate::http::v1::extract::query::{NoParams, Query};
use crate::http::v1::extract::seconds;
use crate::http::v1::problem::{Code, ErrorCodes, ErrorResponses, Problem};
use crate::service::{FeedStart, Sessions};

type PutRequest = Authorized<CanRead, (ConsumerPath, Query<NoParams>, Json<PutBody>)>;

/// A consumer. All fields have defaults.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(as = ConsumerInput, example = json!({ "filter": { "member": "alice" }, "start": "0" }))]
pub(crate) struct PutBody {
    filter: Option<FilterInput>,
    /// The position at which a new consumer starts: a cursor of an event or a page, `0` for the beginning of
    /// the history, or a time (RFC 3339), then every later change follows. Without it, a new consumer
    /// starts after the last change. It has no effect on a consumer that exists.
    #[schema(max_length = 128, example = "0")]
    start: Option<String>,
    /// The time for which a member has the events that it fetched, from `1s` to `43200s`.
    #[schema(pattern = "^[0-9]{1,5}s$", default = "15s", example = "15s")]
    lease: Option<String>,
}

/// A consumer to create or to change.
struct ConsumerRequest {
    filter: FeedFilter,
    lease: ConsumerLease,
    start: FeedStart,
}

impl TryFrom<PutBody> for ConsumerRequest {
    type Error = Problem;

    fn try_from(body: PutBody) -> Result<Self, Problem> {
        let lease = match body.lease.as_deref() {
            None => ConsumerLease::DEFAULT,
            Some(text) => {
                let max = ConsumerLease::MAX_SECONDS.into();
                let lease = seconds::read(Code::InvalidField, "lease", text, max)?;
                ConsumerLease::new(lease)
                    .map_err(|error| Problem::for_field(Code::InvalidField, "lease", error))?
            }
        };
        Ok(Self {
            filter: body.filter.unwrap_or_default().try_into()?,
            lease,
            start: body.start.as_deref().map_or(Ok(FeedStart::Head), input::start)?,
        })
    }
}

/// The error codes of the endpoint, beside those of the request.
struct PutErrors;

impl ErrorCodes for PutErrors {
    fn codes() -> Vec<Code> {
        vec![Code::TooManyConsumers, Code::CursorExpired]
    }
}

/// Create or change a consumer
///
/// The consumer belongs to the app: every key of the app that may read sessions can use it, and no other
/// app can see it. The request can be repeated. A consumer that exists gets the filter and the lease of the
/// request, and keeps its position. Events that were selected by the former filter are still handed out; the
/// new filter selects from the changes after them.
///
/// An app has at most 100 consumers. A consumer that was not used for 30 days is removed.
#[utoipa::path(
    put,
    path = "/v1/consumers/{name}",
    operation_id = "putConsumer",
    tag = "consumers",
    params(PutRequest),
    request_body = PutBody,
    responses(
        (status = 200, description = "The consumer, which existed", body = ConsumerView),
        (status = 201, description = "The new consumer", body = ConsumerView),
        ErrorResponses<(PutRequest, PutErrors)>
    )
)]
pub(crate) async fn put(
    sessions: web::Data<Sessions>,
    request: PutRequest,
) -> Result<HttpResponse, Problem> {
    let (ConsumerPath(name), _, Json(body)) = request.parts;
    let ConsumerRequest { filter, lease, start } = body.try_into()?;
    let putting = sessions.put_consumer(&request.caller, &name, &filter, lease, start);
    let is_new = putting.await.map_err(name_start)?;
    let details = sessions.consumer(&request.caller, &name).await?;
    let mut response = match is_new {
        true => HttpResponse::Created(),
        false => HttpResponse::Ok(),
    };
    if is_new {
        response.insert_header((LOCATION, format!("/v1/consumers/{name}")));
    }
    Ok(response.json(ConsumerView::from(&details)))
}

/// The problem of a position that a consumer cannot start at.
pub(super) fn name_start(error: crate::service::Error) -> Problem {
    Problem::from(error).rename_field(&[("after", "start")])
}
