//! The metrics, and their export to Prometheus.
//!
//! Every module except the pure ones may count here. All names of metrics are in `scrape`. The
//! counting code holds its instrument: nothing is looked up by name while a request runs, nothing
//! is locked, and each thread writes to its own memory. There is no global registry: each
//! application has its own [`Metrics`], so several applications in one process do not mix.
//!
//! Every label has few values: the pattern of a route, never a path; a method or "other"; a code
//! that is written in the source. Input of callers never becomes a label.

mod cells;
mod connections;
mod consumers;
mod feed;
mod history;
mod instruments;
mod page;
mod pool_wait;
mod process;
mod request_bodies;
mod requests;
mod responses;
mod scrape;
mod snapshot;
mod statements;

pub use cells::{Counter, Gauge, Histogram};
pub use connections::{CloseReason, Connections, OpenConnection};
pub use consumers::ConsumerStats;
pub use feed::FeedStats;
pub use history::HistoryStats;
pub use instruments::{Callbacks, Metrics, SealedRejections};
pub use page::Format;
pub use pool_wait::{AcquireStats, GivenUpStats};
pub use process::Disk;
pub use request_bodies::RequestBodies;
pub use requests::{Requests, Route};
pub use responses::ResponseStats;
pub use scrape::text;
pub use snapshot::{CacheStats, DatabaseStats, DeliveryStats, MetricsSnapshot, PoolStats};
pub use statements::StatementStats;
