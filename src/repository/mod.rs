//! All SQL, one file an aggregate.
//!
//! Rows are private to their file; domain values come out. Every statement is checked against the
//! schema when it is compiled, and is written for many items: one is the simple case.

pub mod app_notifications;
pub mod apps;
pub mod audit;
pub mod dedicated_connection;
pub mod deliveries;
pub mod feed;
pub mod history;
pub mod idempotency;
pub mod key_rotation;
pub mod keys;
pub mod migrations;
pub mod pool;
pub mod probe;
pub mod sealing;
pub mod sessions;

mod error;
mod instrumented_pool;
mod persistent;

pub use error::Error;
pub use instrumented_pool::PgPool;
pub use sqlx::PgConnection as Connection;
