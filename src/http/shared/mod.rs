//! Code that several APIs share, so that no API imports another. No file here names an API.

pub(super) mod canonical_json;
pub(super) mod conditions;
pub(super) mod error_text;
pub(super) mod fair_budget;
pub(super) mod idempotency;
pub(super) mod json_error;
pub(super) mod network;
pub(super) mod permission;
pub(super) mod render;
pub(super) mod retry_after;
