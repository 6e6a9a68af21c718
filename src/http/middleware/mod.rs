//! What every request passes before and after its handler: the request's context, its log line,
//! its metrics and span, the limits of its head, its timeout, its client's address.
//!
//! Nothing here knows a single API. A handler leaves what it learns on the
//! [`request_context`]; everything that reports on a request reads it there.

pub(super) mod access_log;
pub(super) mod client_ip;
pub(super) mod header_limits;
pub(super) mod request_context;
pub(super) mod request_guard;
pub(super) mod request_metrics;
pub(super) mod request_span;
pub(super) mod timeout;
