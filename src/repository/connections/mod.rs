//! The connections to the servers of the database, and the statements that are prepared on them. No
//! statement about a table of Muster is here: these statements read the catalogs of PostgreSQL, which are no
//! part of the schema that the compiler checks.
//!
//! - `connector` opens connections to the primary among the `database_servers`; `outage` and `no_server`
//!   report that no primary is reachable. `pool` has the connections of most statements (`connection_pool`,
//!   `pool_executor`,
//!   `pool_limits`, `pool_sessions`, `pool_stats`), and `dedicated_connection` those of single tasks. A
//!   `server_connection` knows its server, and `given_up` ends statements without an answer.
//! - `pooled_work`: transactions through a pooler. `pooler_check` finds out whether one is between.
//! - `connection_settings`: the settings of PostgreSQL that no role changes.
//! - `probe`, `server_answers` and `write_probe`: the role and the state of a server, and whether writes end.
//! - `statement` and `persistent`: statements that are prepared once and run again if a plan is outdated.

pub mod connection_settings;
pub mod dedicated_connection;
pub mod pool;
pub mod pooler_check;
pub mod probe;
pub mod server_answers;
pub mod write_probe;

pub(super) mod connection_pool;
pub(super) mod connector;
pub(super) mod database_servers;
pub(super) mod given_up;
pub(super) mod no_server;
pub(super) mod outage;
pub(super) mod persistent;
pub(super) mod pool_executor;
pub(super) mod pool_limits;
pub(super) mod pool_sessions;
pub(super) mod pool_stats;
pub(super) mod pooled_work;
pub(super) mod server_connection;
pub(super) mod statement;
