//! Error texts that the APIs share. Each API adds its own field and code.

/// The service failed; the log holds the cause.
pub(crate) const INTERNAL: &str = "internal error";
/// No endpoint has the path.
pub(crate) const NO_SUCH_ENDPOINT: &str = "no such endpoint";
/// No session of the enterprise has the id.
pub(crate) const NO_SUCH_SESSION: &str = "no such session";
/// Other writers of the session were faster, several times.
pub(crate) const TOO_MANY_CHANGES: &str = "too many concurrent changes of the session, try again";
/// The database cannot be reached.
pub(crate) const UNAVAILABLE: &str = "the service is not available, try again";
/// Too many requests wait for the database.
pub(crate) const OVERLOADED: &str = "the service is overloaded, try again";
/// The open HTTP/2 requests of an enterprise take too much memory.
pub(crate) const TOO_MANY_OPEN: &str = "the enterprise has too many open requests, try again";
/// A statement took too long and was undone.
pub(crate) const STATEMENT_TIMEOUT: &str = "the service is too slow, nothing was done, try again";
/// A statement was sent, and its result never arrived.
pub(crate) const OUTCOME_UNKNOWN: &str = "no response in time; the outcome is unknown";
