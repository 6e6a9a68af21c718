//! `/v1/sessions`: endpoints that create, read or change one session.

pub(crate) mod create;
pub(crate) mod get;
pub(crate) mod members;
pub(crate) mod state;
pub(crate) mod update;

use actix_web::HttpResponse;

use crate::domain::{Action, SessionId};
use crate::http::v1::extract::text::ActorFields;
use crate::http::v1::extract::write::WriteParams;
use crate::http::v1::problem::{Code, ErrorCodes, Problem};
use crate::http::v1::render::response;
use crate::service::{Caller, Sessions};

/// A change, with its operator and reason.
pub(crate) struct ChangeRequest {
    pub(crate) actor: ActorFields,
    pub(crate) action: Action,
}

/// Changes a session and responds with the result.
async fn apply_change<Q>(
    sessions: &Sessions,
    caller: &Caller,
    id: SessionId,
    params: &WriteParams<Q>,
    change_request: ChangeRequest,
) -> Result<HttpResponse, Problem> {
    let request = params.request(caller, change_request.actor, change_request.action);
    let outcome = sessions.update(caller, id, request, &params.options).await;
    let outcome = outcome.map_err(|error| params.problem(error))?;
    Ok(response::updated(&outcome, &params.options))
}

/// The error codes of every change.
pub(crate) struct ChangeErrors;

impl ErrorCodes for ChangeErrors {
    fn codes() -> Vec<Code> {
        vec![Code::SessionNotFound, Code::NotAMember, Code::MissingReason, Code::TooManyChanges]
    }
}

/// The error codes of every change of members.
pub(crate) struct MemberErrors;

impl ErrorCodes for MemberErrors {
    fn codes() -> Vec<Code> {
        let own = [Code::NotTheOwner, Code::TooFewMembers, Code::TooManyMembers];
        [ChangeErrors::codes(), own.to_vec(), vec![Code::SessionDissolved]].concat()
    }
}
