//! HTTP, through actix: `/cgi` for the clients that exist, `/v1` for new ones, health for those who
//! operate.
//!
//! A handler parses, calls one use case, and renders. The APIs know nothing of each other.

mod application;
mod body;
mod calls;
mod deadline;
mod drain;
mod gate;
mod guesses;
mod heads;
mod held;
mod measure;
mod metrics;
mod noted;
mod ops;
mod options;
mod peer;
mod quota;
mod request_log;
mod rest;
mod retry_after;
mod server;
mod services;
mod trace;
mod uri;
mod youdu;

pub use application::serve;
pub use gate::{Gate, GateOptions};
pub use metrics::{MetricsBound, MetricsEnding, MetricsServer};
pub use options::Options;
pub use rest::openapi;
pub use server::{Bound, Ending, Server, Tls, TlsError};
pub use services::Services;
