//! HTTP, through actix: `/cgi` for the clients that exist, `/v1` for new ones, health for those who
//! operate.
//!
//! A handler parses, calls one use case, and renders. The APIs know nothing of each other.

mod body;
mod drain;
mod held;
mod measure;
mod metrics;
mod ops;
mod request_log;
mod rest;
mod server;
mod uri;
mod youdu;

pub use metrics::{MetricsBound, MetricsEnding, MetricsServer};
pub use rest::openapi;
pub use server::{Bound, Ending, Options, Server, Services, Tls, TlsError};
