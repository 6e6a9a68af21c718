//! The connections to the database, and all SQL of tables. SQL of a whole cluster or a backup is in
//! [`crate::postgres`].
//!
//! - Tables and aggregates have one file or folder each: `sessions`, `history`, `idempotency`, `feed`,
//!   `consumers`, `deliveries`, `apps`, `keys`, `audit`.
//! - `migrations`, `own_schema` and `table_rights`: the schema. `sealing` and `key_rotation`: the secrets
//!   in it. `commit_horizon`: the time up to which no change can appear. `app_notifications`: the messages
//!   between servers.
//! - `connections`: opens, keeps and ends connections, asks a server for its role and state, and runs
//!   prepared statements.
//!
//! Row types are private to their file or folder, which returns domain values. No business rule is
//! here. Every statement is checked against the schema at compile time. Most statements take many
//! items, because requests share them ([`connections::dedicated_connection`]); one item is the simple case.

pub mod app_notifications;
pub mod apps;
pub mod audit;
pub mod commit_horizon;
pub mod connections;
pub mod consumers;
pub mod deliveries;
pub mod feed;
pub mod history;
pub mod idempotency;
pub mod key_rotation;
pub mod keys;
pub mod migrations;
pub mod own_schema;
pub mod sealing;
pub mod sessions;
pub mod table_rights;

mod error;

pub use connections::connection_pool::{Pool, PoolConnection, PoolTransaction};
pub use connections::server_connection::ServerConnection;
pub use error::Error;

pub use sqlx::PgConnection as Connection;
