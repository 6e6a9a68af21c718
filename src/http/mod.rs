//! HTTP, through actix: `/cgi` for existing clients, `/v1` for new ones, health and metrics for
//! operators.
//!
//! - `transport`: connections and their timeouts. `middleware`: duties for every request. `auth`:
//!   credentials.
//! - `application` lists the routers. `endpoint` runs the handler of a path.
//! - `cgi` and `v1` do not use each other. Both use `shared`.
//!
//! A handler parses, calls one use case, and renders. Decisions belong to [`crate::service`] and
//! [`crate::domain`].

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
mod start_page;
mod transport;
mod uri;
mod v1;

pub use application::{serve, serve_metrics};
pub use auth::{AuthOptions, RequestAuth};
pub use health::FINGERPRINT_HEADER;
pub use metrics_server::{MetricsListener, MetricsServer, MetricsShutdown};
pub use middleware::response_budget::ResponseBudget;
pub use options::Options;
pub use services::Services;
pub use transport::{Listener, Server, ShutdownHandle, Tls, TlsError};
pub use v1::{openapi, openapi_3_0};
