//! `POST /v1/consumers/{name}/ack`: a member has done events.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{PlaceErrors, input};
use crate::http::shared::permission::CanRead;
use crate::http::v1::extract::authorized::Authorized;
use crate::http::v1::extract::json::Json;
use crate::http::v1::extract::path::ConsumerPath;
use crate::http::v1::extract::query::{NoParams, Query};
use crate::http::v1::problem::{ErrorResponses, Problem};
use crate::service::{FeedCursor, Sessions};

type AckRequest = Authorized<CanRead, (ConsumerPath, Query<NoParams>, Json<AckBody>)>;

/// The events that a member has done.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ConsumerAck, example = json!({ "member": "worker-1", "cursors": [] }))]
pub(crate) struct AckBody {
    /// The member that fetched them.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$", example = "worker-1")]
    member: String,
    #[schema(schema_with = input::cursor_list)]
    cursors: Vec<String>,
}

/// The outcome.
#[derive(Serialize, ToSchema)]
#[schema(as = ConsumerAcknowledged, example = json!({ "acknowledged": 2, "lost": [] }))]
struct AcknowledgedView {
    /// The number of events that are done, also if they had been acknowledged before.
    #[schema(minimum = 0)]
    acknowledged: usize,
    /// The cursors of the events that the member does not have: their lease ended before, and they are with
    /// another member, parked, or were never handed out. These events are not done.
    #[schema(max_items = 1000)]
    lost: Vec<String>,
}

/// Acknowledge events
///
/// The events are not handed out again. A lease that has ended still counts until another member gets the
/// event. An event can be acknowledged twice, and in any order.
#[utoipa::path(
    post,
    path = "/v1/consumers/{name}/ack",
    operation_id = "acknowledgeEvents",
    tag = "consumers",
    params(AckRequest),
    request_body = AckBody,
    responses(
        (status = 200, description = "The outcome", body = AcknowledgedView),
        ErrorResponses<(AckRequest, PlaceErrors)>
    )
)]
pub(crate) async fn acknowledge(
    sessions: web::Data<Sessions>,
    request: AckRequest,
) -> Result<HttpResponse, Problem> {
    let (ConsumerPath(name), _, Json(body)) = request.parts;
    let (member, cursors) = (input::member(&body.member)?, input::cursors(&body.cursors)?);
    let acknowledging = sessions.acknowledge_events(&request.caller, &name, &member, &cursors);
    let lost: Vec<String> = acknowledging.await?.iter().map(FeedCursor::encode).collect();
    let acknowledged = cursors.len() - lost.len();
    Ok(HttpResponse::Ok().json(AcknowledgedView { acknowledged, lost }))
}
