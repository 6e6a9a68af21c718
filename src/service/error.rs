//! The errors of use cases. Every API translates them into its own.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::domain::{Account, MessageForm, Permission, RuleViolation, Version};
use crate::repository;

/// The reason why a use case failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The caller is not authenticated or not permitted.
    #[error(transparent)]
    Denied(#[from] AuthError),
    /// The request violates a rule of sessions.
    #[error(transparent)]
    Rejected(#[from] RuleViolation),
    /// The enterprise has no session with this id. Another enterprise may have one.
    #[error("no such session")]
    SessionNotFound,
    /// The session has no such version, or did not exist at the given time.
    #[error("the session has no such version")]
    VersionNotFound,
    /// The session has not reached the version that the reader has seen.
    #[error("the session has only version {current}, the reader has seen {min}")]
    VersionNotReached {
        /// The version of the session.
        current: Version,
        /// The version that the reader has seen.
        min: Version,
    },
    /// A change up to the given time may still be committed.
    #[error("changes are complete only until {settled_until}, the request asks for {at}")]
    TimeNotSettled {
        /// The time up to which every change is committed.
        settled_until: DateTime<Utc>,
        /// The given time.
        at: DateTime<Utc>,
    },
    /// The history of the database is another one at the position of a cursor of the feed.
    #[error("the cursor belongs to another history of the database")]
    CursorExpired,
    /// The database lacks changes up to a cursor of the feed.
    #[error("the changes up to the cursor are not there yet")]
    CursorNotReached,
    /// The account is not a member of the session.
    #[error("{account} is not a member of the session")]
    MemberNotFound {
        /// The account that the request names.
        account: Account,
    },
    /// The app has used this idempotency key for another request. Nothing was changed.
    #[error("the idempotency key was used for another request")]
    IdempotencyKeyReused,
    /// Other changes of the session came first, repeatedly. Nothing was changed.
    #[error("too many concurrent changes of the session")]
    Contention,
    /// The database cannot be reached, or no connection became free in time. Nothing was changed.
    #[error("the database is not available")]
    Unavailable(#[source] Arc<repository::Error>),
    /// The request would have waited too long behind others. Nothing was changed.
    #[error("too many requests wait for the database")]
    Overloaded {
        /// The estimated time until the waiting requests are done.
        wait: Duration,
    },
    /// The app has no consumer with this name.
    #[error("no such consumer")]
    ConsumerNotFound,
    /// The position of a consumer belongs to another history of the database. Nothing was changed.
    #[error("the position of the consumer belongs to another history of the database")]
    ConsumerExpired,
    /// The app has the largest number of consumers. Nothing was changed.
    #[error("at most {max} consumers of an app, got {}", .max + 1)]
    TooManyConsumers {
        /// The limit.
        max: usize,
    },
    /// Too many fetches of the app wait on this server. Nothing was changed.
    #[error("at most {max} fetches of an app wait at the same time")]
    TooManyWaits {
        /// The limit.
        max: usize,
    },
    /// Too many comparisons of the enterprise run. Nothing was done.
    #[error("at most {max} comparisons of an enterprise run at the same time")]
    TooManyComparisons {
        /// The limit.
        max: usize,
    },
    /// The app or the enterprise has too many streams and waiting requests. Nothing was done.
    #[error("at most {max} streams and waiting requests of an {owner} on a server")]
    TooManyStreams {
        /// The limit.
        max: usize,
        /// The owner of the limit: app or enterprise.
        owner: &'static str,
    },
    /// A statement took too long and was cancelled. Nothing was changed.
    #[error("the statement took too long and was cancelled")]
    StatementTimeout(#[source] Arc<repository::Error>),
    /// The database did not answer in time, or the connection broke. The outcome is unknown.
    #[error("the database did not answer; the outcome is unknown")]
    OutcomeUnknown(#[source] Arc<repository::Error>),
    /// The database failed.
    #[error("the database failed")]
    Internal(#[source] Arc<repository::Error>),
}

impl Error {
    /// The request waited until its deadline. Nothing was done.
    pub(super) fn queue_timeout() -> Self {
        repository::Error::acquire_timeout().into()
    }
}

impl From<repository::Error> for Error {
    fn from(error: repository::Error) -> Self {
        Arc::new(error).into()
    }
}

/// Requests that share a statement share its error.
impl From<Arc<repository::Error>> for Error {
    fn from(error: Arc<repository::Error>) -> Self {
        match *error {
            repository::Error::Unavailable(_) => Self::Unavailable(error),
            repository::Error::TimedOut(_) => Self::StatementTimeout(error),
            _ if error.is_outcome_unknown() => Self::OutcomeUnknown(error),
            _ => Self::Internal(error),
        }
    }
}

/// The reason why a caller is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The request has no token.
    #[error("access token is missing")]
    MissingToken,
    /// The token or key is forged or revoked, or its app is unknown or disabled.
    #[error("access token does not exist")]
    UnknownToken,
    /// The token has expired.
    #[error("access token expired")]
    ExpiredToken,
    /// The API key has expired.
    #[error("the API key has expired")]
    ExpiredKey,
    /// The API key is limited to other networks than that of the client.
    #[error("the API key may not be used from this network")]
    ForeignNetwork,
    /// The app is unknown or disabled.
    #[error("unknown or disabled app")]
    UnknownApp,
    /// The app belongs to another enterprise.
    #[error("not the enterprise of this app")]
    WrongEnterprise,
    /// A token request does not prove that the app has its key. The text names every cause, because
    /// the caller must not learn which one it was.
    #[error(
        "cannot be opened with this app's key, or its time is more than {permitted_skew} s off"
    )]
    InvalidProof {
        /// The largest permitted difference of the clocks, in seconds.
        permitted_skew: u64,
        /// The cause, for the log.
        fault: ProofFault,
    },
    /// The app lacks a permission.
    #[error("the app lacks the permission {0}")]
    MissingPermission(Permission),
    /// The API key lacks a permission that its app has.
    #[error("the API key lacks the permission {0}, which its app has")]
    KeyLacksPermission(Permission),
    /// The app may not use this form of messages.
    #[error("the app may not use the {0} form")]
    FormNotAllowed(MessageForm),
}

impl AuthError {
    /// Whether the error suggests guessing. An expired token or key does not: this service issued it.
    pub(crate) fn suggests_guessing(self) -> bool {
        match self {
            Self::UnknownToken
            | Self::UnknownApp
            | Self::WrongEnterprise
            | Self::InvalidProof { .. } => true,
            Self::MissingToken
            | Self::ExpiredToken
            | Self::ExpiredKey
            | Self::ForeignNetwork
            | Self::MissingPermission(_)
            | Self::KeyLacksPermission(_)
            | Self::FormNotAllowed(_) => false,
        }
    }
}

/// Why a token request does not prove that the app has its key. Only operators see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofFault {
    /// The sealed text cannot be opened with the app's key.
    Unopened,
    /// The message is not a whole number.
    NotATime,
    /// The time in the message differs too much: seconds ahead of the server's time.
    ClockSkew(i64),
    /// The sealed text was used before.
    Replayed,
}

impl fmt::Display for ProofFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unopened => f.write_str("the sealed text cannot be opened with the app's key"),
            Self::NotATime => f.write_str("the sealed message is not a time in whole Unix seconds"),
            Self::Replayed => f.write_str("the sealed text was used before"),
            Self::ClockSkew(ahead) if *ahead > 0 => {
                write!(f, "the client's clock is {ahead} s ahead of the server's")
            }
            Self::ClockSkew(ahead) => {
                write!(f, "the client's clock is {} s behind the server's", ahead.unsigned_abs())
            }
        }
    }
}
