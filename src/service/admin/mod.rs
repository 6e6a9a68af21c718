//! Use cases of operators: apps, API keys, callbacks, the audit, master keys, the schema, copies of
//! the database, and a diagnosis of it.
//!
//! Each use case is one function that takes an [`AdminContext`]. It writes its audit entry in the
//! transaction of the change, and waits until the running servers have the change. No SQL, no
//! printing and no command line lives here: an error names the fact, and the caller adds the
//! remedy.

pub mod apps;
pub mod audit;
pub mod callbacks;
pub mod copies;
pub mod diagnosis;
pub mod feed;
pub mod first_app;
pub mod keys;
pub mod removal;
pub mod schema;
pub mod schema_plan;
pub mod secrets;

mod backlog;
mod context;
mod error;
mod propagation;
mod uncommitted;

pub use context::AdminContext;
pub use error::Error;
pub use uncommitted::Uncommitted;
