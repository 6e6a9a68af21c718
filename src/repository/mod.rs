//! All SQL, one file an aggregate.
//!
//! Rows are private to their file; domain values come out. Every statement is checked against the
//! schema when it is compiled, and is written for many items: one is the simple case.

pub mod apps;
pub mod audit;
pub mod changes;
pub mod deliveries;
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
mod measured;

pub use error::Error;
pub use measured::PgPool;
