//! Where a change of a session comes from.

use crate::domain::{Account, AppId, IdempotencyKey, Reason};
use crate::telemetry::Trace;

/// The request that makes a change, as its event, its deliveries and its key keep it.
#[derive(Clone, Copy, Debug)]
pub struct Provenance<'a> {
    /// The app that acted for the operator.
    pub app_id: &'a AppId,
    /// The account that acted.
    pub operator: &'a Account,
    /// Why.
    pub reason: Option<&'a Reason>,
    /// The caller's name for the request.
    pub key: Option<&'a IdempotencyKey>,
    /// The trace of the request.
    pub trace: Option<&'a Trace>,
}
