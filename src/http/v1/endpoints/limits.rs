//! `GET /v1/limits`: the rules in force, for programs. The limits that only this API has are here.

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::batch;
use super::list::batch_get;
use crate::domain::{Account, Attributes, IdempotencyKey, Reason, RemovePolicy, Title};
use crate::http::options::Options;
use crate::http::shared::permission::Anything;
use crate::http::v1::extract::authorized::Authorised;
use crate::http::v1::extract::page;
use crate::http::v1::extract::query::{Nothing, Query};
use crate::http::v1::problem::Problems;
use crate::service::Sessions;

type Asked = Authorised<Anything, Query<Nothing>>;

/// The rules in force. Lengths count Unicode characters, not bytes.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "minMembers": 3, "maxMembers": 2000, "removeMembers": "owner", "maxTitleLength": 64,
    "maxAccountLength": 64, "maxAttributesBytes": 16_384, "maxReasonLength": 256,
    "defaultPageLimit": 50, "maxPageLimit": 200, "maxBatchGetIds": 200, "maxBatchItems": 100,
    "maxIdempotencyKeyLength": 255, "idempotencyKeySeconds": 86_400, "maxBodyBytes": 1_048_576
}))]
struct Limits {
    /// The fewest members of a session, its owner included.
    min_members: usize,
    /// The most members of a session.
    max_members: usize,
    /// Who may remove members other than themselves.
    remove_members: Removers,
    /// The longest title, in characters.
    max_title_length: usize,
    /// The longest account, in characters.
    max_account_length: usize,
    /// The largest attributes of a session, in bytes of JSON.
    max_attributes_bytes: usize,
    /// The longest reason of a change, in characters.
    max_reason_length: usize,
    /// The items of a page without `limit`.
    default_page_limit: usize,
    /// The largest `limit` of a page.
    max_page_limit: usize,
    /// The most ids in one batch-get.
    max_batch_get_ids: usize,
    /// The most items of one batch.
    max_batch_items: usize,
    /// The longest `Idempotency-Key`, in characters.
    max_idempotency_key_length: usize,
    /// How long an `Idempotency-Key` is remembered, in seconds.
    idempotency_key_seconds: i64,
    /// The largest body of a request, in bytes.
    max_body_bytes: usize,
}

/// Who may remove members other than themselves.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
enum Removers {
    /// Only the owner.
    Owner,
    /// Every member.
    Member,
}

/// The rules in force
///
/// For any API key, whatever its permissions. They change only when the service restarts.
#[utoipa::path(
    get,
    path = "/v1/limits",
    operation_id = "getLimits",
    tag = "service",
    responses((status = 200, description = "The rules", body = Limits), Problems<Asked>)
)]
pub(crate) async fn get(
    sessions: web::Data<Sessions>,
    options: web::Data<Options>,
    _: Asked,
) -> HttpResponse {
    let rules = sessions.rules();
    HttpResponse::Ok().json(Limits {
        min_members: rules.min_members,
        max_members: rules.max_members,
        remove_members: match rules.remove_members {
            RemovePolicy::Owner => Removers::Owner,
            RemovePolicy::Member => Removers::Member,
        },
        max_title_length: Title::MAX,
        max_account_length: Account::MAX,
        max_attributes_bytes: Attributes::MAX_BYTES,
        max_reason_length: Reason::MAX,
        default_page_limit: page::USUAL,
        max_page_limit: page::MOST,
        max_batch_get_ids: batch_get::MOST,
        max_batch_items: batch::MOST,
        max_idempotency_key_length: IdempotencyKey::MAX,
        idempotency_key_seconds: IdempotencyKey::KEPT.num_seconds(),
        max_body_bytes: options.max_body_bytes,
    })
}
