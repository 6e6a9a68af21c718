//! The paths of the files of an embedded PostgreSQL.

use std::io;
use std::path::{Path, PathBuf};

use super::error::EmbeddedError;
use super::untrusted_file;

/// The name of PostgreSQL's directory in the data directory.
const DIR_NAME: &str = "postgres";
/// The characters of an unknown version that a message quotes.
const MAX_QUOTED_CHARS: usize = 20;
/// A part of the socket's name. PostgreSQL does not listen on TCP.
pub(super) const PORT: u16 = 5432;

/// PostgreSQL's own directory.
pub(super) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(DIR_NAME)
}

/// The major version that created `cluster`, or `None` if `cluster` is not created yet.
pub(super) fn major(cluster: &Path) -> Result<Option<u32>, EmbeddedError> {
    const NAME: &str = "PG_VERSION";
    let not_a_cluster =
        |problem: String| EmbeddedError::NotACluster { path: cluster.to_owned(), problem };
    match untrusted_file::read(cluster, NAME) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let start: String = text.trim().chars().take(MAX_QUOTED_CHARS).collect();
            let unknown = || not_a_cluster(format!("has the unknown version `{start}` in {NAME}"));
            start.parse().map(Some).map_err(|_| unknown())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if untrusted_file::is_link(&error) => {
            Err(not_a_cluster(format!("has a link as {NAME}, which is not followed")))
        }
        Err(error) => Err(EmbeddedError::file("read", cluster.join(NAME))(error)),
    }
}
