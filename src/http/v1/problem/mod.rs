//! Error responses of this API: `application/problem+json` (RFC 9457).
//!
//! Only [`from`] turns errors of the layers below into problems. An error does not know its
//! request, so [`with_request_id`] adds the request id just before the response is sent.

mod attach;
mod body;
mod code;
mod from;
mod responses;

pub(crate) use attach::{report_causes, with_request_id};
pub(crate) use body::{Problem, ProblemBody};
pub(crate) use code::Code;
pub(crate) use responses::{ErrorCodes, ErrorResponses};
