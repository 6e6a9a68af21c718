//! All SQL of single tables and aggregates, one file or folder for each. SQL of a whole database is
//! in [`crate::postgres`].
//!
//! Row types are private to their file or folder, which returns domain values. No business rule is
//! here. Every statement is checked against the schema at compile time. Most statements take many
//! items, because requests share them ([`dedicated_connection`]); one item is the simple case.

pub mod app_notifications;
pub mod apps;
pub mod audit;
pub mod commit_horizon;
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

mod connection_pool;
mod error;
mod outage;
mod persistent;
mod pool_executor;
mod pool_limits;
mod statement;

pub use connection_pool::{Pool, PoolConnection, PoolTransaction};
pub use error::Error;

pub use sqlx::PgConnection as Connection;
