//! HTTP, through actix: `/cgi` for the clients that exist, `/v1` for new ones, health for those who
//! operate.
//!
//! A handler parses, calls one use case, and renders. The APIs know nothing of each other.

mod application;
mod auth;
mod body;
mod cgi;
mod endpoint;
mod health;
mod metrics_server;
mod middleware;
mod options;
mod services;
mod shared;
mod transport;
mod uri;
mod v1;

pub use application::serve;
pub use auth::{Gate, GateOptions};
pub use metrics_server::{MetricsBound, MetricsEnding, MetricsServer};
pub use options::Options;
pub use services::Services;
pub use transport::{Bound, Ending, Server, Tls, TlsError};
pub use v1::openapi;
