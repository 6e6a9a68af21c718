//! The paths of the files of an embedded PostgreSQL.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::error::EmbeddedError;

/// The name of PostgreSQL's directory in the data directory.
const DIR_NAME: &str = "postgres";
/// A part of the socket's name. PostgreSQL does not listen on TCP.
pub(super) const PORT: u16 = 5432;

/// PostgreSQL's own directory.
pub(super) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(DIR_NAME)
}

/// The major version that created `cluster`, or `None` if `cluster` is not created yet.
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
