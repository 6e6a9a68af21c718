//! The services that handlers call. The composition root builds them, and each thread clones them.

use std::sync::Arc;

use super::auth::authenticate::RequestAuth;
use super::middleware::response_budget::ResponseBudget;
use crate::metrics::Metrics;
use crate::service::{Authenticator, Readiness, Sessions};
use crate::telemetry::Traces;

/// The services that handlers call.
#[derive(Clone)]
pub struct Services {
    /// Checks credentials.
    pub authenticator: Authenticator,
    /// Reads and changes sessions.
    pub sessions: Sessions,
    /// Authenticates requests, within the limits for callers.
    pub auth: Arc<RequestAuth>,
    /// Reports whether requests can be served.
    pub readiness: Arc<Readiness>,
    /// The memory of large responses.
    pub responses: Arc<ResponseBudget>,
    /// Counts requests.
    pub metrics: Arc<Metrics>,
    /// Traces requests.
    pub traces: Traces,
}
