//! `/v1/sessions`: one session, and what is done to it.

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
use crate::http::v1::render::answer;
use crate::service::{Caller, Sessions};

/// What somebody wants to be done.
pub(crate) struct ChangeRequest {
    pub(crate) actor: ActorFields,
    pub(crate) action: Action,
}

/// Changes a session, and shows it. The version that it must have stands in a header.
async fn apply_change<Q>(
    sessions: &Sessions,
    caller: &Caller,
    id: SessionId,
    params: &WriteParams<Q>,
    change_request: ChangeRequest,
) -> Result<HttpResponse, Problem> {
    let request = params.request(caller, change_request.actor, change_request.action);
    let outcome = sessions.update(caller, id, request, &params.options).await;
    let outcome =
        outcome.map_err(|error| Problem::from(error).rename_field(&[("version", "If-Match")]))?;
    Ok(answer::updated(&outcome, &params.options))
}

/// What can be said against any change.
pub(crate) struct ChangeErrors;

impl ErrorCodes for ChangeErrors {
    fn codes() -> Vec<Code> {
        vec![
            Code::SessionNotFound,
            Code::NotAMember,
            Code::MissingReason,
            Code::VersionConflict,
            Code::Contended,
        ]
    }
}

/// What can be said against changes of members.
pub(crate) struct MemberErrors;

impl ErrorCodes for MemberErrors {
    fn codes() -> Vec<Code> {
        let own = [Code::NotTheOwner, Code::TooFewMembers, Code::TooManyMembers];
        [ChangeErrors::codes(), own.to_vec(), vec![Code::SessionDissolved]].concat()
    }
}
