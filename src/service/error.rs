//! Why a use case did not do what was asked: the one error type that every API translates.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::{Permission, Refusal};
use crate::repository;

/// What a use case answers instead of doing it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Who calls may not.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The rules of sessions say no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The enterprise has no such session; another one may have.
    #[error("no such session")]
    NoSuchSession,
    /// The session had no such version, or not yet.
    #[error("the session has no such version")]
    NoSuchVersion,
    /// The session has no such member.
    #[error("the session has no such member")]
    NoSuchMember,
    /// The caller used this idempotency key for something else. Nothing was changed.
    #[error("was used for another request before")]
    KeyReused,
    /// So many changed the session at once that this change found no turn. Nothing was changed.
    #[error("too many changes of this session at once")]
    Contended,
    /// The database cannot be reached, or has no connection to spare. Nothing was changed.
    #[error("the database is not available")]
    Unavailable(#[source] Arc<repository::Error>),
    /// The database would not come to it in time: too much waits already. Nothing was changed.
    #[error("too many requests wait for the database")]
    Overloaded {
        /// How long what waits will take, as far as can be told.
        wait: Duration,
    },
    /// The database took too long. Nothing was changed.
    #[error("the database took too long")]
    TooSlow(#[source] Arc<repository::Error>),
    /// The database has not answered, or the connection broke before it did. What became of the
    /// request is not known.
    #[error("the database has not answered")]
    Unanswered(#[source] Arc<repository::Error>),
    /// The database failed.
    #[error("the database failed")]
    Failed(#[source] Arc<repository::Error>),
}

impl Error {
    /// It waited for so long that nobody expects an answer any more. Nothing was done.
    pub(super) fn queued_too_long() -> Self {
        repository::Error::acquire_timeout().into()
    }
}

impl From<repository::Error> for Error {
    fn from(error: repository::Error) -> Self {
        Arc::new(error).into()
    }
}

/// Requests that shared a statement share its failure.
impl From<Arc<repository::Error>> for Error {
    fn from(error: Arc<repository::Error>) -> Self {
        match *error {
            repository::Error::Unavailable(_) => Self::Unavailable(error),
            repository::Error::TimedOut(_) => Self::TooSlow(error),
            _ if error.is_lost() => Self::Unanswered(error),
            _ => Self::Failed(error),
        }
    }
}

/// Why a caller is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No token at all.
    #[error("access token is missing")]
    TokenMissing,
    /// A token or key that is forged, revoked, or of an app that is unknown or disabled.
    #[error("access token does not exist")]
    TokenUnknown,
    /// A token whose time is over.
    #[error("access token expired")]
    TokenExpired,
    /// An app that is unknown or disabled.
    #[error("unknown or disabled app")]
    AppUnknown,
    /// The app exists, but in another enterprise.
    #[error("not the enterprise of this app")]
    BuinWrong,
    /// A token was asked for with a time that is too far from now, or none.
    #[error("the time is not that of the server")]
    ClockSkew,
    /// The app lacks a permission.
    #[error("the app lacks the permission {0}")]
    Permission(Permission),
}
