//! Why no master key can be had. No message holds a key.

use std::io;
use std::path::PathBuf;

/// Why there are no keys. No message holds one.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// No key is configured, and none may be created here: other servers would not know it.
    #[error(
        "there is no master key, which seals the secrets in the database. Make one with `muster \
         secrets generate`, give it to all servers and commands of this database as \
         MUSTER__SECRETS__MASTER_KEY or in a file that secrets.master_key_file names, and keep it \
         apart from the database's backups"
    )]
    NoKey,
    /// The system refused something.
    #[error("cannot {doing} the master key file {}", path.display())]
    File {
        /// What was to be done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line is not a key.
    #[error("{}, line {line}: expected {expected}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// The format of a key.
        expected: &'static str,
    },
    /// The file holds no key.
    #[error("the master key file {} holds no key: `muster secrets generate` prints one", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}
