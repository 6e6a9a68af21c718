//! Responses that hold a session: its JSON, its headers, and the same in the API's description; and
//! responses that are made while they are sent.

pub(super) mod event_stream;
pub(super) mod event_view;
pub(super) mod json_text;
pub(super) mod line_stream;
pub(super) mod response;
pub(super) mod view;
