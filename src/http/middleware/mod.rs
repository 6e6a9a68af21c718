//! What every request passes before and after its handler, one duty a file. [`pipeline`] puts them
//! in their order.
//!
//! Nothing here knows a single API. An extractor leaves what it learns on the
//! [`request_context`]; everything that reports on a request reads it there.

mod access_log;
pub(super) mod client_ip;
mod header_limits;
pub(super) mod pipeline;
pub(super) mod request_context;
mod request_guard;
mod request_id;
pub(super) mod request_metrics;
mod request_span;
pub(super) mod timeout;
