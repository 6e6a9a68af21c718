//! `GET /v1/limits`: the rules in force, for programs, with the limits that only this API has.

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::batch;
use super::list::batch_get;
use crate::domain::{Account, Attributes, IdempotencyKey, Reason, RemovePolicy, Title};
use crate::http::options::Options;
use crate::http::shared::permission::AnyKey;
use crate::http::v1::extract::authorized::Authorized;
use crate::http::v1::extract::page;
use crate::http::v1::extract::query::{NoParams, Query};
use crate::http::v1::problem::ErrorResponses;
use crate::service::Sessions;

type LimitsRequest = Authorized<AnyKey, Query<NoParams>>;

/// The rules in force. Lengths count Unicode characters, not bytes.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SessionLimits, example = json!({
    "minMembers": 3, "minRemainingMembers": 3, "maxMembers": 2000, "removeMembers": "owner",
    "maxTitleLength": 64,
    "maxAccountLength": 64, "maxAttributesBytes": 16_384, "maxReasonLength": 256,
    "defaultPageLimit": 50, "maxPageLimit": 200, "maxBatchGetIds": 200, "maxBatchItems": 100,
    "maxIdempotencyKeyLength": 255, "idempotencyKeySeconds": 86_400, "maxBodyBytes": 1_048_576
}))]
struct Limits {
    /// The minimum number of members of a new session, its owner included.
    min_members: usize,
    /// The number of members that must stay if members leave or are removed. An app with
    /// `sessions:admin` that gives a reason may remove members down to one.
    min_remaining_members: usize,
    /// The maximum number of members of a session, its owner included.
    max_members: usize,
    /// The members that may remove other members.
    remove_members: RemovePolicyView,
    /// The maximum length of a title, in characters.
    max_title_length: usize,
    /// The maximum length of an account, in characters.
    max_account_length: usize,
    /// The maximum size of the attributes of a session, in bytes of JSON.
    max_attributes_bytes: usize,
    /// The maximum length of a reason, in characters.
    max_reason_length: usize,
    /// The number of items of a page if the request has no `limit`.
    default_page_limit: usize,
    /// The maximum `limit` of a page.
    max_page_limit: usize,
    /// The maximum number of ids in a batch-get.
    max_batch_get_ids: usize,
    /// The maximum number of items in a batch.
    max_batch_items: usize,
    /// The maximum length of an `Idempotency-Key`, in characters.
    max_idempotency_key_length: usize,
    /// The time for which an `Idempotency-Key` is kept, in seconds.
    idempotency_key_seconds: i64,
    /// The maximum size of the body of a request, in bytes.
    max_body_bytes: usize,
}

/// The members that may remove other members.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RemovePolicy)]
enum RemovePolicyView {
    /// Only the owner.
    Owner,
    /// Every member.
    Member,
}

/// The rules in force
///
/// Every API key may read the rules. They change only when the service restarts.
#[utoipa::path(
    get,
    path = "/v1/limits",
    operation_id = "getLimits",
    tag = "service",
    responses((status = 200, description = "The rules", body = Limits), ErrorResponses<LimitsRequest>)
)]
pub(crate) async fn get(
    sessions: web::Data<Sessions>,
    options: web::Data<Options>,
    _: LimitsRequest,
) -> HttpResponse {
    let rules = sessions.rules();
    HttpResponse::Ok().json(Limits {
        min_members: rules.min_members,
        min_remaining_members: rules.min_remaining,
        max_members: rules.max_members,
        remove_members: match rules.remove_members {
            RemovePolicy::Owner => RemovePolicyView::Owner,
            RemovePolicy::Member => RemovePolicyView::Member,
        },
        max_title_length: Title::MAX,
        max_account_length: Account::MAX,
        max_attributes_bytes: Attributes::MAX_BYTES,
        max_reason_length: Reason::MAX,
        default_page_limit: page::DEFAULT,
        max_page_limit: page::MAX,
        max_batch_get_ids: batch_get::MAX_IDS,
        max_batch_items: batch::MAX_ITEMS,
        max_idempotency_key_length: IdempotencyKey::MAX,
        idempotency_key_seconds: IdempotencyKey::RETENTION.num_seconds(),
        max_body_bytes: options.max_body_bytes,
    })
}
