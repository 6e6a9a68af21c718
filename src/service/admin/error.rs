//! The reasons why a use case of an operator fails.

use std::path::PathBuf;

use chrono::{DateTime, Utc};

use crate::domain::{App, AppId, Buin, ConsumerName, Permission};
use crate::keyring::KeyringError;
use crate::postgres::backup::DumpError;
use crate::repository;
use crate::repository::migrations::MigrationError;
use crate::wire::MasterKeyId;

/// The reason why a use case of an operator failed. The texts are for operators.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An app of this enterprise has this id already.
    #[error("app {app_id} of enterprise {buin} already exists")]
    AppExists {
        /// The enterprise.
        buin: Buin,
        /// The id.
        app_id: AppId,
    },
    /// The enterprise has no app of this id.
    #[error("there is no app {app_id} of enterprise {buin}")]
    AppNotFound {
        /// The enterprise.
        buin: Buin,
        /// The id.
        app_id: AppId,
    },
    /// The app is archived, so it cannot be changed.
    #[error("app {app_id} of enterprise {buin} is archived")]
    AppArchived {
        /// The enterprise.
        buin: Buin,
        /// The id.
        app_id: AppId,
    },
    /// The history of sessions names the app, so it cannot be deleted.
    #[error("the history of sessions names app {app_id} of enterprise {buin}")]
    AppInHistory {
        /// The enterprise.
        buin: Buin,
        /// The id.
        app_id: AppId,
    },
    /// A key cannot have a permission that its app lacks.
    #[error("the app lacks the permission {0}, so its key cannot have it")]
    PermissionOfNoApp(Permission),
    /// A key would end before it is created.
    #[error("the key would expire at {0}, which is not in the future")]
    ExpiryInThePast(DateTime<Utc>),
    /// No enterprise has an app of this id.
    #[error("there is no app {0}")]
    AppIdNotFound(AppId),
    /// The app has no callback, and the change has only a URL or only a token.
    #[error("the app has no callback yet: a URL and a token are needed together")]
    IncompleteCallback,
    /// No API key has this id.
    #[error("there is no key of this id")]
    KeyNotFound,
    /// No callback has this id.
    #[error("there is no such callback")]
    CallbackNotFound,
    /// A worker is sending the callback, so it cannot be replayed.
    #[error("the callback is being sent right now")]
    CallbackInFlight,
    /// The app has no consumer of this name.
    #[error("there is no consumer {0}")]
    ConsumerNotFound(ConsumerName),
    /// A cursor belongs to another history of the database.
    #[error("the cursor belongs to another history of the database")]
    CursorExpired,
    /// The tables do not belong to this version of Muster, and no migration changes that.
    #[error("the schema was not made by this version of Muster")]
    ForeignSchema,
    /// The tables do not belong to this version of Muster; a migration may change that.
    #[error("the schema of the source is not current")]
    SchemaNotCurrent,
    /// Migrations are pending, and the caller did not permit them.
    #[error("{0} migrations are pending")]
    MigrationsPending(usize),
    /// A migration failed, or the database was changed by something else.
    #[error(transparent)]
    Migration(MigrationError),
    /// The list of applied migrations cannot be read.
    #[error("the database cannot be used")]
    Unreachable(#[source] repository::Error),
    /// The master key that seals the secrets is not in the keyring.
    #[error(transparent)]
    MasterKeyMissing(repository::Error),
    /// Another rotation of the master key runs.
    #[error("another rotation of the master key is running")]
    RotationRunning,
    /// The first master key is already active, and no key file exists to which a new key could be
    /// added.
    #[error("no new master key is configured")]
    NoNewMasterKey,
    /// Running servers have not confirmed that they have the new master key. The old key stays
    /// active.
    #[error("{servers} running servers have not confirmed that they have the new master key {id}")]
    MasterKeyUnconfirmed {
        /// The number of servers.
        servers: u64,
        /// The new key.
        id: MasterKeyId,
    },
    /// Another rotation has activated the new key.
    #[error("another rotation has changed the master key meanwhile")]
    RotationOvertaken,
    /// The first master key does not come from a file, so no old key can be removed.
    #[error("the master key does not come from a file")]
    MasterKeyNotInFile,
    /// A master key cannot be read or written.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The backup has migrations that this version of Muster does not know.
    #[error("the backup is newer than this program: it has migrations {migrations:?}")]
    BackupTooNew {
        /// The unknown migrations.
        migrations: Vec<i64>,
        /// The version of Muster that made the backup.
        muster: String,
    },
    /// The manifest of a backup has an invalid id of a master key.
    #[error("backup.json: masterKey is not the id of a master key")]
    BackupKeyMalformed,
    /// The key file in a backup holds another key than the manifest names.
    #[error("{} is not the key {id}", path.display())]
    BackupKeyWrong {
        /// The file.
        path: PathBuf,
        /// The key that the manifest names.
        id: MasterKeyId,
    },
    /// The master key of a backup is not in the keyring. Nothing was restored.
    #[error("the backup is sealed with the master key {id}, which is not available here")]
    BackupKeyMissing {
        /// The key that the manifest names.
        id: MasterKeyId,
        /// The keys that are in the keyring.
        available: Vec<MasterKeyId>,
        /// The key file in the backup, if it has one.
        included: Option<PathBuf>,
    },
    /// The backup has no signature. Nothing was restored.
    #[error(
        "the backup in {} has no signature, so any user who could write to this directory may have \
         changed it",
        .0.display()
    )]
    BackupNotSigned(PathBuf),
    /// Only the master key in the backup verifies its signature. Nothing was restored.
    #[error(
        "only the master key in the backup itself verifies its signature, so any user who could \
         write to {} may have changed both",
        .0.display()
    )]
    BackupVouchesForItself(PathBuf),
    /// The data of a backup were restored, but a restored secret cannot be opened.
    #[error("the data were restored, but the secrets of an app cannot be opened")]
    RestoredSecrets(#[source] repository::Error),
    /// A copy of the database failed.
    #[error(transparent)]
    Copy(#[from] DumpError),
    /// The target database cannot be reached, or has another encoding than UTF8.
    #[error("the target database cannot be used")]
    TargetUnreachable(#[source] repository::Error),
    /// The tables cannot be created in the target database.
    #[error("the tables cannot be created in the target database")]
    TargetSchema(#[source] MigrationError),
    /// The database failed.
    #[error(transparent)]
    Database(repository::Error),
}

impl Error {
    /// Refuses an archived app.
    ///
    /// # Errors
    /// [`Error::AppArchived`].
    pub fn if_archived(is_archived: bool, app: &App) -> Result<(), Self> {
        match is_archived {
            true => Err(Self::AppArchived { buin: app.buin, app_id: app.app_id.clone() }),
            false => Ok(()),
        }
    }
}

impl From<repository::Error> for Error {
    fn from(error: repository::Error) -> Self {
        match error {
            repository::Error::AppExists { buin, app_id } => Self::AppExists { buin, app_id },
            repository::Error::AppUnknown { buin, app_id } => Self::AppNotFound { buin, app_id },
            repository::Error::AppArchived { buin, app_id } => Self::AppArchived { buin, app_id },
            repository::Error::AppInHistory { buin, app_id } => Self::AppInHistory { buin, app_id },
            other => Self::Database(other),
        }
    }
}

impl From<MigrationError> for Error {
    fn from(error: MigrationError) -> Self {
        match error {
            MigrationError::Database(error) => Self::Unreachable(error),
            other => Self::Migration(other),
        }
    }
}
