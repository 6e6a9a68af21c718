//! The steps before and after every handler, one step per file. [`pipeline`] runs them in order.
//!
//! This module knows no API. An extractor records its findings in the [`request_context`]; the
//! log, the metrics and the traces read it there.

mod access_log;
pub(super) mod client_ip;
mod header_limits;
pub(super) mod pipeline;
pub(super) mod request_context;
mod request_guard;
mod request_id;
pub(super) mod request_metrics;
mod request_span;
pub(super) mod response_budget;
mod security_headers;
pub(super) mod timeout;
