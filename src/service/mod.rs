//! Use cases: authenticate the caller, load, decide, write. No SQL, no HTTP.
//!
//! - `sessions`, `history`, `list`, `comparison` and `idempotency`: operations on sessions. `cursor_bytes`
//!   reads cursors of `list` and `feed`.
//! - `feed`: the changes of an enterprise, as pages, streams and consumers. `change_notifier` wakes the
//!   worker of callbacks.
//! - `batching`: requests that share a statement. `pool_admission`: requests that do not.
//!   `comparison_slots` and `owner_permits` bound how many run, and `work_turns` gives large requests
//!   turns on a thread. `background_work` moves other work to the `background_threads`.
//! - `session_cache` has each `cached_session`, kept up to date by `feed`.
//! - `access` authenticates each `caller` against the `app_directory`, whose entries are `app_context` and
//!   `key_entry`. `replay_memory` remembers sealed texts that were used.
//! - `readiness`, `database_servers`, `database_identity`, `metrics_source` and `key_expiry` tell the
//!   operator about the server; `audit_retention` and `pruner` delete what has expired.
//! - `admin`: the use cases of operators. `error`: the errors that every API translates.

pub mod admin;

mod access;
mod app_context;
mod app_directory;
mod audit_retention;
mod background_threads;
mod background_work;
mod batching;
mod cached_session;
mod caller;
mod change_notifier;
mod comparison;
mod comparison_slots;
mod cursor_bytes;
mod database_identity;
mod database_servers;
mod error;
mod feed;
mod history;
mod idempotency;
mod key_entry;
mod key_expiry;
mod list;
mod metrics_source;
mod owner_permits;
mod pool_admission;
mod pruner;
mod readiness;
mod replay_memory;
mod session_cache;
mod sessions;
mod work_turns;

pub use access::{Authenticator, IssuedToken, TokenOptions};
pub use app_context::{AppContext, KeyGeneration};
pub use app_directory::AppDirectory;
pub use audit_retention::AuditRetention;
pub use background_threads::BackgroundThreads;
pub use batching::SessionOptions;
pub use cached_session::CachedSession;
pub use caller::{Caller, Credential};
pub use change_notifier::ChangeNotifier;
pub use comparison::Comparison;
pub use database_identity::DatabaseIdentity;
pub use database_servers::{DatabaseServerState, ReplicationLag, ServerRole};
pub use error::{AuthError, Error, ProofFault};
pub use feed::{ConsumerDetails, ConsumerWait, FetchState, FetchedEvents};
pub use feed::{
    FeedCursor, FeedItem, FeedPage, FeedQuery, FeedStart, FilterDigest, InvalidFeedCursor,
    LastMatch, LiveEvent, RenderEvent, SnapshotPhase, StreamLimits, StreamPosition, StreamStep,
    StreamUpdate, Subscription,
};
pub use history::{EventsPage, HistoryPage, SessionDiff};
pub use list::{
    InvalidCursor, InvalidPageSize, ListQuery, ListedSessions, MembersQuery, Page, PageSize,
    SessionsFound,
};
pub use metrics_source::{MetricsInputs, MetricsSource};
pub use pruner::Pruner;
pub use readiness::{NotReady, Readiness, ReadinessReport};
pub use replay_memory::ReplayMemory;
pub use session_cache::CacheOptions;
pub use sessions::{Freshness, Sessions, WriteOptions, WriteOutcome};
pub use work_turns::{WorkTurn, WorkTurns};
