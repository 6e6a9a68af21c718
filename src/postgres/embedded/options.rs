//! Options of an embedded PostgreSQL.

use std::path::PathBuf;

use super::timeouts::StartupTimeouts;

/// Options of an embedded PostgreSQL.
#[derive(Clone, Debug)]
pub struct Options {
    /// Muster's data directory. PostgreSQL lives in `postgres` below it. A missing directory is
    /// created.
    pub data_dir: PathBuf,
    /// `database.postgres_dir`: the directory that holds `postgres` and `initdb`. If set, no other
    /// programs are used.
    pub postgres_dir: Option<PathBuf>,
    /// Whether programs may be downloaded if the machine has no suitable ones.
    pub download: bool,
    /// The number of connections that Muster will open.
    pub max_connections: u32,
    /// The time limits for its start.
    pub timeouts: StartupTimeouts,
}
