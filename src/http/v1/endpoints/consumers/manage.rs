//! `DELETE /v1/consumers/{name}`, `POST …/reset` and `POST …/release`.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::put::name_start;
use super::status::ConsumerView;
use super::{ConsumerErrors, PlaceErrors, input};
use crate::http::shared::permission::CanRead;
use crate::http::v1::extract::authorized::Authorized;
use crate::http::v1::extract::json::Json;
use crate::http::v1::extract::path::ConsumerPath;
use crate::http::v1::extract::query::{NoParams, Query};
use crate::http::v1::problem::{ErrorResponses, Problem};
use crate::service::Sessions;

type RemoveRequest = Authorized<CanRead, (ConsumerPath, Query<NoParams>)>;
type ResetRequest = Authorized<CanRead, (ConsumerPath, Query<NoParams>, Json<ResetBody>)>;
type ReleaseRequest = Authorized<CanRead, (ConsumerPath, Query<NoParams>, Json<ReleaseBody>)>;

/// The position that a consumer moves to.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ConsumerReset, example = json!({ "start": "0" }))]
pub(crate) struct ResetBody {
    /// A cursor of an event or a page, `0` for the beginning of the history, or a time (RFC 3339).
    #[schema(max_length = 128, example = "0")]
    start: String,
}

/// The parked events to release.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ConsumerRelease, example = json!({ "discard": false }))]
pub(crate) struct ReleaseBody {
    #[schema(schema_with = input::cursor_list, required = false)]
    cursors: Option<Vec<String>>,
    /// `true`: the events are not handed out again, but count as done.
    #[serde(default)]
    #[schema(default = false, example = false)]
    discard: bool,
}

/// The number of events that were released.
#[derive(Serialize, ToSchema)]
#[schema(as = ConsumerReleased, example = json!({ "released": 1 }))]
struct ReleasedView {
    /// The number of parked events that were released.
    #[schema(minimum = 0)]
    released: u64,
}

/// Remove a consumer
///
/// Its position and its events are forgotten.
#[utoipa::path(
    delete,
    path = "/v1/consumers/{name}",
    operation_id = "removeConsumer",
    tag = "consumers",
    params(RemoveRequest),
    responses(
        (status = 204, description = "The consumer is removed"),
        ErrorResponses<(RemoveRequest, ConsumerErrors)>
    )
)]
pub(crate) async fn remove(
    sessions: web::Data<Sessions>,
    request: RemoveRequest,
) -> Result<HttpResponse, Problem> {
    let (ConsumerPath(name), _) = request.parts;
    sessions.remove_consumer(&request.caller, &name).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Move a consumer to another position
///
/// Events that members have are forgotten, as are parked ones. After a restore of the database this is the
/// way to use the consumer again.
#[utoipa::path(
    post,
    path = "/v1/consumers/{name}/reset",
    operation_id = "resetConsumer",
    tag = "consumers",
    params(ResetRequest),
    request_body = ResetBody,
    responses(
        (status = 200, description = "The consumer", body = ConsumerView),
        ErrorResponses<(ResetRequest, PlaceErrors)>
    )
)]
pub(crate) async fn reset(
    sessions: web::Data<Sessions>,
    request: ResetRequest,
) -> Result<HttpResponse, Problem> {
    let (ConsumerPath(name), _, Json(ResetBody { start })) = request.parts;
    let start = input::start(&start)?;
    sessions.reset_consumer(&request.caller, &name, start).await.map_err(name_start)?;
    let details = sessions.consumer(&request.caller, &name).await?;
    Ok(HttpResponse::Ok().json(ConsumerView::from(&details)))
}

/// Release parked events
///
/// The events are handed out again, as if they had never failed, or with `discard` they count as done. The
/// later events of their sessions follow. Without `cursors` all parked events are released.
#[utoipa::path(
    post,
    path = "/v1/consumers/{name}/release",
    operation_id = "releaseEvents",
    tag = "consumers",
    params(ReleaseRequest),
    request_body = ReleaseBody,
    responses(
        (status = 200, description = "The events are released", body = ReleasedView),
        ErrorResponses<(ReleaseRequest, ConsumerErrors)>
    )
)]
pub(crate) async fn release(
    sessions: web::Data<Sessions>,
    request: ReleaseRequest,
) -> Result<HttpResponse, Problem> {
    let (ConsumerPath(name), _, Json(ReleaseBody { cursors, discard })) = request.parts;
    let cursors = cursors.map(|cursors| input::cursors(&cursors)).transpose()?;
    let releasing = sessions.release_events(&request.caller, &name, cursors.as_deref(), discard);
    let released = releasing.await?;
    Ok(HttpResponse::Ok().json(ReleasedView { released }))
}
