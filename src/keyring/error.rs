//! Errors of the keyring. No message contains a key.

use std::io;
use std::path::PathBuf;

/// A failure to read or write master keys. No message contains a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// No key is configured, and a new key may not be generated, because other servers would not
    /// know it.
    #[error(
        "there is no master key, which seals the secrets in the database. Make one with `muster \
         secrets generate`, give it to all servers and commands of this database as \
         MUSTER__SECRETS__MASTER_KEY or in a file that secrets.master_key_file names, and keep it \
         apart from the database's backups"
    )]
    NoKey,
    /// The operating system refused an operation.
    #[error("cannot {action} the master key file {}", path.display())]
    File {
        /// The operation.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A line is not a key.
    #[error("{}, line {line}: expected {expected}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1.
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
