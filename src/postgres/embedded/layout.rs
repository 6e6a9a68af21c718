//! Where the files of a PostgreSQL lie, and what its socket is called.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::error::EmbeddedError;

/// What its directory is called in the data directory.
const DIR_NAME: &str = "postgres";
/// Part of the name of the socket. Nothing listens on TCP.
pub(super) const PORT: u16 = 5432;

/// PostgreSQL's own directory.
pub(super) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(DIR_NAME)
}

/// The major version that made `cluster`, or nothing if it is still to be made.
pub(super) fn major(cluster: &Path) -> Result<Option<u32>, EmbeddedError> {
    let file = cluster.join("PG_VERSION");
    match fs::read_to_string(&file) {
        Ok(text) => text.trim().parse().map(Some).map_err(|_| EmbeddedError::NotACluster {
            path: cluster.to_owned(),
            problem: format!("has the unknown version `{}` in PG_VERSION", text.trim()),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(EmbeddedError::file("read", file)(error)),
    }
}
