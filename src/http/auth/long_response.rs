//! The caller of a response that lasts longer than a request.

use std::net::IpAddr;

use actix_web::{HttpRequest, web};
use tokio::time::Instant;

use super::authenticate::{AuthRejection, authenticator, client_ip};
use crate::service::{AuthError, Authenticator, Caller, Error};

/// The caller of a long response, without its request.
pub(crate) struct LongResponseCaller {
    authenticator: web::Data<Authenticator>,
    token: Box<str>,
    ip: IpAddr,
}

impl LongResponseCaller {
    /// The caller with a token.
    ///
    /// # Errors
    /// If the server has no authenticator.
    pub(crate) fn new(request: &HttpRequest, token: &str) -> Result<Self, AuthRejection> {
        let authenticator = authenticator(request)?.clone();
        Ok(Self { authenticator, token: token.into(), ip: client_ip(request).0 })
    }

    /// Authenticates the caller again, by the state in the memory of this server. The request is not counted
    /// once more.
    ///
    /// # Errors
    /// If the token is not valid any more.
    pub(crate) fn authenticate_again(&self) -> Result<Caller, AuthRejection> {
        let known = self.authenticator.authenticate_cached(&self.token, Instant::now());
        // A key that is not in memory was revoked: changes of keys are read at once.
        let caller = known.map_err(Error::from)?.ok_or(Error::from(AuthError::UnknownToken))?;
        caller.admit(|| self.ip).map_err(Error::from)?;
        Ok(caller)
    }
}
