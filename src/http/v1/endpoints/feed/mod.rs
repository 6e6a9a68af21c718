//! `/v1/events`: the changes of all sessions of the enterprise, in one order.

pub(in crate::http::v1) mod page;
mod page_view;
pub(super) mod parse;
mod stream;
mod stream_log;
mod stream_part;
pub(super) mod view;
pub(super) mod wait;
