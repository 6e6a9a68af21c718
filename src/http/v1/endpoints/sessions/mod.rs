//! `/v1/sessions`: one session, and what is done to it.

pub(crate) mod create;
pub(crate) mod get;
pub(crate) mod members;
pub(crate) mod state;
pub(crate) mod update;

use actix_web::HttpResponse;

use crate::domain::{Action, SessionId};
use crate::http::v1::extract::text::Acting;
use crate::http::v1::extract::write::Write;
use crate::http::v1::problem::{Code, Fails, Problem};
use crate::http::v1::render::answer;
use crate::service::{Caller, Sessions};

/// What somebody wants to be done.
pub(crate) struct Wish {
    pub(crate) acting: Acting,
    pub(crate) action: Action,
}

/// Changes a session, and shows it. The version that it must have stands in a header.
async fn change<Q>(
    sessions: &Sessions,
    caller: &Caller,
    id: SessionId,
    write: &Write<Q>,
    wish: Wish,
) -> Result<HttpResponse, Problem> {
    let request = write.request(caller, wish.acting, wish.action);
    let done = sessions.change(caller, id, request, &write.terms).await;
    let done = done.map_err(|error| Problem::from(error).about(&[("version", "If-Match")]))?;
    Ok(answer::written(&done, &write.terms))
}

/// What can be said against any change.
pub(crate) struct Changes;

impl Fails for Changes {
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
pub(crate) struct OfMembers;

impl Fails for OfMembers {
    fn codes() -> Vec<Code> {
        let own = [Code::NotTheOwner, Code::TooFewMembers, Code::TooManyMembers];
        [Changes::codes(), own.to_vec(), vec![Code::SessionDissolved]].concat()
    }
}
