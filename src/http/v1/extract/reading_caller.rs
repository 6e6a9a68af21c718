//! The caller of a stream or of a request that waits. The credential may end before the response does, so it is
//! checked again.

use actix_web::HttpRequest;

use super::authorized::{bearer_token, require_permission};
use crate::domain::MessageForm;
use crate::http::auth::long_response::LongResponseCaller;
use crate::http::shared::permission::{CanRead, RequiredPermission as _};
use crate::http::v1::problem::Problem;
use crate::service::Caller;

/// The caller of a response that reads for longer than its request lasts, without the request, whose
/// header takes more memory than the response.
pub(in crate::http::v1) struct ReadingCaller(LongResponseCaller);

impl ReadingCaller {
    /// The caller of a request.
    ///
    /// # Errors
    /// If the request has no key.
    pub(in crate::http::v1) fn new(request: &HttpRequest) -> Result<Self, Problem> {
        Ok(Self(LongResponseCaller::new(request, bearer_token(request)?)?))
    }

    /// Authenticates the caller again, without counting the request once more.
    ///
    /// # Errors
    /// If the caller is no longer authorized.
    pub(in crate::http::v1) fn authenticate_again(&self) -> Result<Caller, Problem> {
        let caller = self.0.authenticate_again()?;
        require_permission(&caller, CanRead::ANY_OF)?;
        caller.require_form(MessageForm::Plain)?;
        Ok(caller)
    }
}
