//! What several APIs need, so that they need not import each other. Nothing here names an API.

pub(super) mod cause_chain;
pub(super) mod error_text;
pub(super) mod permission;
pub(super) mod render;
pub(super) mod retry_after;
