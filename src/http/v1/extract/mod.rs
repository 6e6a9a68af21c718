//! Readers of requests: of the caller, and of each part of a request. An error is a problem that
//! names the field.

pub(super) mod authorized;
pub(super) mod bounded_list;
pub(super) mod conditions;
pub(super) mod field;
mod header;
pub(super) mod idempotency;
pub(super) mod json;
pub(super) mod last_event_id;
pub(super) mod min_cursor;
pub(super) mod min_version;
pub(super) mod ndjson;
pub(super) mod number;
pub(super) mod object;
pub(super) mod page;
pub(super) mod parameter;
pub(super) mod part;
pub(super) mod path;
pub(super) mod percent;
pub(super) mod query;
pub(super) mod reading_caller;
pub(super) mod request_memory;
pub(super) mod request_record;
pub(super) mod seconds;
pub(super) mod streamed;
pub(super) mod text;
pub(super) mod unsupported_headers;
pub(super) mod write;
