//! The source of a change of a session.

use crate::domain::{Account, AppId, IdempotencyKey, Reason};
use crate::telemetry::Trace;

/// The request that makes a change. Its event, its deliveries and its key store parts of it.
#[derive(Clone, Copy, Debug)]
pub struct Provenance<'a> {
    /// The app that acted for the operator.
    pub app_id: &'a AppId,
    /// The account that acted.
    pub operator: &'a Account,
    /// The reason, if the caller gave one.
    pub reason: Option<&'a Reason>,
    /// The caller's idempotency key.
    pub key: Option<&'a IdempotencyKey>,
    /// The trace of the request.
    pub trace: Option<&'a Trace>,
}
