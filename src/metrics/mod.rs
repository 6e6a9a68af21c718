//! The metrics, and their export to Prometheus.
//!
//! Every room but the pure ones may count here. All names of metrics are in `scrape`. The counting
//! code holds its instrument: nothing is looked up by name while a request runs, nothing is locked,
//! and threads write to memory of their own. There is no global registry: each application has its
//! [`Metrics`], so that several in one process stay apart.
//!
//! Every label is one of few: a route's pattern, never a path; a method or "other"; a code that is
//! written in the source. Input of callers never becomes a label.

mod acquires;
mod cells;
mod connections;
mod instruments;
mod page;
mod process;
mod requests;
mod scrape;
mod statements;
mod vitals;

pub use acquires::AcquireStats;
pub use cells::{Counter, Gauge, Histogram};
pub use connections::{CloseReason, Connections, OpenConnection};
pub use instruments::{Callbacks, Metrics};
pub use page::Format;
pub use process::Disk;
pub use requests::{Requests, Route};
pub use scrape::text;
pub use statements::StatementStats;
pub use vitals::{CacheStats, DatabaseStats, DeliveryStats, MetricsSnapshot, PoolStats};
