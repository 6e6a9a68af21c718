//! Credentials in, callers out, for every API: authentication, the throttling of failed attempts,
//! the request rate of an app.
//!
//! Permissions are not checked here: an endpoint's signature names the permission that it needs.

mod app_rate_limit;
mod attempt_throttle;
pub(super) mod authenticate;
pub(super) mod bearer;
pub(super) mod caller_body;
pub(super) mod long_response;
mod sealed_guard;
pub(super) mod sealed_texts;

pub use authenticate::{AuthOptions, RequestAuth};
