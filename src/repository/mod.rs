//! All SQL, one file an aggregate, the keys that seal secrets, and the embedded PostgreSQL.
//!
//! Rows are private to their file; domain values come out. Every statement is checked against the
//! schema when it is compiled, and is written for many items: one is the simple case.

pub mod apps;
pub mod audit;
pub mod changes;
pub mod deliveries;
pub mod dump;
pub mod embedded;
pub mod feed;
pub mod history;
pub mod idempotency;
pub mod keys;
pub mod line;
pub mod migrations;
pub mod pool;
pub mod probe;
pub mod sealing;
pub mod sessions;

mod error;
mod kept;
mod keyring;
mod measured;

pub use error::Error;
pub use keyring::{KeyFile, Keyring, KeyringError};
pub use measured::PgPool;
pub use sqlx::PgConnection as Connection;
