//! What an embedded PostgreSQL needs to know.

use std::path::PathBuf;

use super::timeouts::StartupTimeouts;

/// What an embedded PostgreSQL needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Muster's data directory; PostgreSQL lives in `postgres` below it. Made if it is missing.
    pub data_dir: PathBuf,
    /// `database.postgres_dir`: the directory that holds `postgres` and `initdb`. If set, no other
    /// programs are used.
    pub postgres_dir: Option<PathBuf>,
    /// Whether programs may be downloaded when there are none.
    pub download: bool,
    /// How many connections Muster will open.
    pub max_connections: u32,
    /// How long to wait for it.
    pub timeouts: StartupTimeouts,
}
