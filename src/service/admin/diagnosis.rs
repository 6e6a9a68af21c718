//! A diagnosis of the database: its version, its clock and its secrets. Nothing is changed.
//!
//! [`super::schema::state`] diagnoses the schema. The functions here have no timeout: the caller
//! must expect a database that does not answer.

use std::path::PathBuf;
use std::time::Duration;

use super::{AdminContext, Error};
use crate::repository::{self, apps, probe, sealing};
use crate::wire::MasterKeyId;

/// The oldest major version of PostgreSQL on which Muster runs.
pub const MIN_POSTGRES_VERSION: i32 = probe::MIN_VERSION;

/// A database server that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseServer {
    /// The version as the server writes it, such as "15.18".
    pub version: String,
    /// Whether Muster supports this version.
    pub is_supported: bool,
    /// Whether the server takes no writes.
    pub is_read_only: bool,
    /// The difference between the clocks of the server and this process.
    pub clock_skew: Duration,
}

/// The condition of the stored secrets.
#[derive(Debug)]
pub enum SecretsCondition {
    /// Every secret can be opened.
    Sealed {
        /// The active master key.
        key: MasterKeyId,
    },
    /// Every secret can be opened, but every user of the machine can read the master key.
    ExposedKeyFile {
        /// The file of master keys.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// No master key is active yet.
    NotSealed,
    /// The master keys cannot be read.
    UnreadableKeys(Error),
    /// The active master key is not in the keyring.
    MissingKey(Error),
    /// A stored secret cannot be opened.
    DamagedSecret(Error),
    /// The database failed.
    Failed(Error),
}

/// Reads the version and the clock of the database server, and whether it takes writes.
///
/// # Errors
/// The database fails.
pub async fn server(admin: &AdminContext) -> Result<DatabaseServer, Error> {
    let server = probe::server(&admin.pool).await?;
    Ok(DatabaseServer {
        is_supported: server.major >= MIN_POSTGRES_VERSION,
        is_read_only: probe::is_read_only(&admin.pool).await?,
        clock_skew: admin.skew(server.now),
        version: server.version,
    })
}

/// Opens every stored secret, and checks the permissions of the key file. The schema must be
/// current.
pub async fn secrets(admin: &AdminContext) -> SecretsCondition {
    if let Err(error) = admin.keyring.load() {
        return SecretsCondition::UnreadableKeys(error.into());
    }
    let key = match sealing::load_active_key(&admin.pool, &admin.keyring).await {
        Ok(key) => key.id(),
        Err(repository::Error::NotSealed) => return SecretsCondition::NotSealed,
        Err(error @ repository::Error::MasterKeyUnknown { .. }) => {
            return SecretsCondition::MissingKey(error.into());
        }
        Err(error) => return SecretsCondition::Failed(error.into()),
    };
    if let Err(error) = apps::list(&admin.pool, &admin.keyring).await {
        return SecretsCondition::DamagedSecret(error.into());
    }
    match admin.keyring.world_readable() {
        Some((path, mode)) => SecretsCondition::ExposedKeyFile { path: path.to_owned(), mode },
        None => SecretsCondition::Sealed { key },
    }
}
