//! Responses that hold a session: its JSON, its headers, and the same in the API's description.

pub(super) mod response;
pub(super) mod view;
