//! The services that handlers call, as the composition root makes them and each thread clones them.

use std::sync::Arc;

use super::auth::authenticate::RequestAuth;
use crate::metrics::Metrics;
use crate::service::{Authenticator, Readiness, Sessions};
use crate::telemetry::Traces;

/// What the handlers call.
#[derive(Clone)]
pub struct Services {
    /// Lets callers in.
    pub authenticator: Authenticator,
    /// The sessions.
    pub sessions: Sessions,
    /// Where they come in.
    pub auth: Arc<RequestAuth>,
    /// Whether any of them can be served.
    pub readiness: Arc<Readiness>,
    /// Counts the requests.
    pub metrics: Arc<Metrics>,
    /// Traces them.
    pub traces: Traces,
}
