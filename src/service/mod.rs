//! Use cases: authenticate the caller, load, decide, write. No SQL, no HTTP.
//!
//! - `sessions`, `history`, `list`, `comparison` and `idempotency`: operations on sessions.
//! - `batching`: requests that share a statement. `pool_admission`: requests that do not.
//!   `work_turns`: the turns of large requests on a thread.
//! - `session_cache`, kept up to date by `feed`.
//! - `access` authenticates callers against the `app_directory`.
//! - `readiness`, `metrics_source` and `audit_retention` serve the operator.

pub mod admin;

mod access;
mod app_context;
mod app_directory;
mod audit_retention;
mod batching;
mod cached_session;
mod caller;
mod change_notifier;
mod comparison;
mod comparison_slots;
mod error;
mod feed;
mod history;
mod idempotency;
mod key_entry;
mod key_expiry;
mod list;
mod metrics_source;
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
pub use batching::SessionOptions;
pub use cached_session::CachedSession;
pub use caller::{Caller, Credential};
pub use change_notifier::ChangeNotifier;
pub use comparison::Comparison;
pub use error::{AuthError, Error, ProofFault};
pub use history::{EventsPage, HistoryPage, SessionDiff};
pub use list::{
    InvalidCursor, InvalidPageSize, ListQuery, ListedSessions, MembersQuery, Page, PageSize,
    SessionsFound,
};
pub use metrics_source::{MetricsInputs, MetricsSource};
pub use pruner::Pruner;
pub use readiness::{NotReady, Readiness};
pub use replay_memory::ReplayMemory;
pub use session_cache::CacheOptions;
pub use sessions::{Freshness, Sessions, WriteOptions, WriteOutcome};
pub use work_turns::WorkTurns;
