//! What a client gets instead of a result: `application/problem+json` (RFC 9457).
//!
//! What the rooms below say becomes a problem in [`from`] only. An answer learns the id of its
//! request late: an error does not know its request, so [`with_request_id`] writes it in on the way out.

mod body;
mod code;
mod from;
mod responses;

pub(crate) use body::{Problem, ProblemBody, report_causes, with_request_id};
pub(crate) use code::Code;
pub(crate) use responses::{ErrorCodes, ErrorResponses};
