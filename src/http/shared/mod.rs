//! What several APIs need, so that they need not import each other. Nothing here names an API.

pub(super) mod retry_after;
