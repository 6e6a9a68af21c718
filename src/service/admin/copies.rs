//! Copies of a whole database: a backup, its restore, and a move to another PostgreSQL.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{AdminContext, Error, schema, secrets};
use crate::keyring::{KeyFile, Keyring};
use crate::postgres::backup::{self, Backup, Destination};
pub use crate::postgres::backup::{DatabaseContents, Manifest};
use crate::postgres::embedded::Options;
use crate::repository::migrations::{self, MigrationList, MigrationScope};
use crate::repository::{Pool, apps, connections::pool};
use crate::wire::{MasterKey, MasterKeyId};

/// A backup whose master key is available, so that it can be restored.
pub struct CheckedBackup {
    backup: Backup,
    included_key: Option<IncludedKey>,
    is_authenticated: bool,
}

/// The master key in a backup that becomes the key of this data directory.
struct IncludedKey {
    keyring: Keyring,
    id: MasterKeyId,
    /// The file to which the key is written.
    target: PathBuf,
}

/// The keys available to a restore, and the place for a key from the backup.
pub struct RestoreKeys<'a> {
    /// The keyring of this configuration.
    pub keyring: &'a Keyring,
    /// The key file of the embedded database. The key of the backup is written to it if the path is
    /// `Some` and the file does not exist.
    pub key_file: Option<&'a Path>,
}

/// A finished restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoreSummary {
    /// The number of apps.
    pub apps: usize,
    /// The number of migrations that were applied because the backup was older.
    pub migrated: usize,
}

/// Writes a backup into `dir`, which must be new or empty, while servers run. The backup is
/// complete when this returns. Pending migrations do not prevent a backup, because an upgrade
/// starts with one. `programs` locates the programs of PostgreSQL. The backup contains the master
/// key if `with_key` is set and the keyring has the key.
///
/// # Errors
/// [`Error::ForeignSchema`], [`Error::Copy`], or the keyring or the database fails.
pub async fn back_up(
    admin: &AdminContext,
    dir: &Path,
    programs: &Options,
    with_key: bool,
) -> Result<Manifest, Error> {
    schema::require_known(admin).await?;
    if with_key {
        admin.keyring.load()?;
    }
    let to = Destination { dir, postgres: programs, keyring: &admin.keyring, with_key };
    Ok(backup::backup(&admin.pool, &to, admin.audit_context()).await?)
}

/// The file that holds the first master key, as an absolute path; `None` if the key comes from the
/// environment.
#[must_use]
pub fn key_file(admin: &AdminContext) -> Option<PathBuf> {
    let path = admin.keyring.primary_file()?;
    Some(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
}

/// Opens a backup and checks it before a database is created for it. The signature is checked before
/// anything else in it is used. A backup that no master key of this machine has signed is refused
/// unless `accept_unauthenticated` is set.
///
/// # Errors
/// [`Error::BackupKeyMissing`], [`Error::BackupKeyWrong`], [`Error::BackupKeyMalformed`],
/// [`Error::BackupNotSigned`], [`Error::BackupVouchesForItself`], [`Error::BackupTooNew`], or the backup is
/// incomplete or changed.
pub fn open_backup(
    dir: &Path,
    keys: &RestoreKeys<'_>,
    accept_unauthenticated: bool,
) -> Result<CheckedBackup, Error> {
    let backup = Backup::open(dir)?;
    let found = keys.find(&backup)?;
    let is_signed = match &found {
        Some(FoundKey { key, .. }) => backup.authenticate(key)?,
        None => false,
    };
    let included_key = found.and_then(|found| found.included);
    let is_authenticated = is_signed && included_key.is_none();
    if !is_authenticated && !accept_unauthenticated {
        return Err(match is_signed {
            true => Error::BackupVouchesForItself(dir.to_owned()),
            false => Error::BackupNotSigned(dir.to_owned()),
        });
    }
    let migrations = MigrationList::own().unknown(&backup.manifest.migrations);
    if !migrations.is_empty() {
        let muster = backup.manifest.muster;
        return Err(Error::BackupTooNew { migrations, muster });
    }
    backup.verify()?;
    Ok(CheckedBackup { backup, included_key, is_authenticated })
}

/// Restores a backup into an empty database, and migrates it.
///
/// # Errors
/// [`Error::ForeignSchema`], [`Error::Copy`], [`Error::RestoredSecrets`], those of
/// [`schema::migrate`], or the database fails.
pub async fn restore(
    admin: &AdminContext,
    checked: &CheckedBackup,
    programs: &Options,
) -> Result<RestoreSummary, Error> {
    schema::require_known(admin).await?;
    backup::restore(&admin.pool, &checked.backup, programs).await?;
    if let Some(IncludedKey { keyring, id, target }) = &checked.included_key {
        keyring.save(target, *id)?;
    }
    let migrated = schema::migrate(admin, true).await?.applied.len();
    let apps = apps::list(&admin.pool, &admin.keyring).await.map_err(Error::RestoredSecrets)?;
    let CheckedBackup { backup, is_authenticated, .. } = checked;
    backup::audit_restore(&admin.pool, backup, *is_authenticated, admin.audit_context()).await?;
    Ok(RestoreSummary { apps: apps.len(), migrated })
}

/// Copies everything into the empty database `target`, and compares every table. The source must be
/// current, its master key must be in the keyring, and no server may run.
///
/// # Errors
/// [`Error::SchemaNotCurrent`], [`Error::MasterKeyMissing`], [`Error::TargetUnreachable`] after
/// `connect_timeout`, [`Error::TargetSchema`], [`Error::Copy`], or the database fails.
pub async fn move_to(
    admin: &AdminContext,
    target: &Pool,
    connect_timeout: Duration,
) -> Result<DatabaseContents, Error> {
    if schema::state(admin).await? != schema::SchemaState::Current {
        return Err(Error::SchemaNotCurrent);
    }
    secrets::verify(admin).await?;
    let usable = pool::check_usable(target, connect_timeout).await;
    usable.map_err(Error::TargetUnreachable)?;
    let AdminContext { migrations, lock_waits, .. } = admin;
    let migrated = migrations::run(target, migrations, MigrationScope::All, *lock_waits).await;
    migrated.map_err(Error::TargetSchema)?;
    Ok(backup::transfer(&admin.pool, target, admin.audit_context()).await?)
}

impl CheckedBackup {
    /// The description of the backup.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.backup.manifest
    }
}

/// The master key of a backup.
struct FoundKey {
    key: MasterKey,
    /// The key in the backup, if it becomes the key of this data directory.
    included: Option<IncludedKey>,
}

impl RestoreKeys<'_> {
    /// The master key of a backup, which is in the keyring or will be. `None` if the secrets of the
    /// backup are not sealed.
    fn find(&self, backup: &Backup) -> Result<Option<FoundKey>, Error> {
        let Some(id) = backup.manifest.master_key.as_deref() else { return Ok(None) };
        let id = MasterKeyId::parse(id).ok_or(Error::BackupKeyMalformed)?;
        if self.keyring.load().is_ok()
            && let Some(key) = self.keyring.find(id)
        {
            return Ok(Some(FoundKey { key, included: None }));
        }
        let included = backup.key();
        if let (Some(path), Some(key_file)) = (&included, self.key_file)
            && !key_file.exists()
        {
            backup.check_key()?;
            let keyring =
                Keyring::new(None, Some(KeyFile { path: path.clone(), create: false }), None);
            keyring.load()?;
            let Some(key) = keyring.find(id) else {
                return Err(Error::BackupKeyWrong { path: path.clone(), id });
            };
            let included = Some(IncludedKey { keyring, id, target: key_file.to_owned() });
            return Ok(Some(FoundKey { key, included }));
        }
        Err(Error::BackupKeyMissing { id, available: self.keyring.ids(), included })
    }
}
