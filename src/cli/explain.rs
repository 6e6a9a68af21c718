//! The errors of use cases, with the command or setting that is their remedy.

use super::output::OutputError;
use crate::service::admin;

const UNREACHABLE: &str =
    "the database cannot be used: check database.url and whether PostgreSQL runs (`muster doctor`)";

/// The remedy for a missing master key.
pub(super) const WRONG_KEY: &str = "the master key of this database is not available here: restore the file of master keys (master.key in \
     data_dir, else secrets.master_key_file) or MUSTER__SECRETS__MASTER_KEY as it was when the \
     database, or the backup that it comes from, was last used";

/// The error of a database that cannot be reached, with its cause and remedy.
pub(super) fn unreachable<E>(error: E) -> anyhow::Error
where
    E: std::error::Error + Send + Sync + 'static,
{
    anyhow::Error::from(error).context(UNREACHABLE)
}

/// The error of a new secret that could not be shown. `outcome` is its consequence.
pub(super) fn not_shown(error: OutputError, outcome: &str) -> anyhow::Error {
    anyhow::Error::from(error).context(format!("the secret could not be shown, so {outcome}"))
}

/// Adds the remedy to an error of a use case.
pub(super) fn explain(error: admin::Error) -> anyhow::Error {
    use admin::Error;
    match error {
        Error::Unreachable(error) => unreachable(error),
        Error::MasterKeyMissing(error) => anyhow::Error::from(error).context(WRONG_KEY),
        Error::AppNotFound { .. } | Error::CallbackNotFound | Error::KeyNotFound => {
            let command = match error {
                Error::CallbackNotFound => "delivery",
                Error::KeyNotFound => "key",
                _ => "app",
            };
            anyhow::anyhow!("{error}: `muster {command} list` lists those that exist")
        }
        Error::ConsumerNotFound(_) => {
            anyhow::anyhow!("{error}: `muster feed list` lists those that exist")
        }
        Error::AppIdNotFound(_) => {
            anyhow::anyhow!("{error}: `muster app list` lists those that exist")
        }
        Error::AppExists { .. } => {
            anyhow::anyhow!("{error}: choose another --app-id, or use `muster app update`")
        }
        Error::AppArchived { .. } => anyhow::anyhow!("{error}, which cannot be undone"),
        Error::AppInHistory { .. } => anyhow::anyhow!(
            "{error}, so it cannot be deleted: `muster app archive` takes it out of use"
        ),
        Error::PermissionOfNoApp(_) => {
            anyhow::anyhow!("--permissions: {error}: `muster app update` changes those of the app")
        }
        Error::ExpiryInThePast(_) => anyhow::anyhow!("--expires: {error}"),
        Error::IncompleteCallback => anyhow::anyhow!(
            "the app has no callback yet: give --callback-url and --callback-token together"
        ),
        Error::ForeignSchema => anyhow::anyhow!(
            "the schema of the database was not made by this version of Muster: `muster migrate status` \
             shows the difference"
        ),
        Error::SchemaNotCurrent => anyhow::anyhow!("{error}: run `muster migrate` first"),
        Error::MigrationsPending(_) => anyhow::anyhow!("{error}; run `muster migrate`"),
        Error::RotationRunning => anyhow::anyhow!("another `muster secrets rotate` is running"),
        Error::NoNewMasterKey => anyhow::anyhow!(
            "MUSTER__SECRETS__MASTER_KEY is already the active key. Restart all servers with a new key \
             (`muster secrets generate`) as MUSTER__SECRETS__MASTER_KEY and the old key as \
             MUSTER__SECRETS__PREVIOUS_MASTER_KEY, then run this command again with both"
        ),
        Error::MasterKeyUnconfirmed { servers, id } => anyhow::anyhow!(
            "{servers} running servers have not confirmed that they have the new master key {id}: \
             write it into their files of master keys, before the old one, or restart them with it \
             as MUSTER__SECRETS__MASTER_KEY and the old one as \
             MUSTER__SECRETS__PREVIOUS_MASTER_KEY; then run this command again. The old key is \
             still active"
        ),
        Error::RotationOvertaken => anyhow::anyhow!("{error}: see `muster secrets status`"),
        Error::MasterKeyNotInFile => anyhow::anyhow!(
            "the master key does not come from a file: restart all servers without \
             MUSTER__SECRETS__PREVIOUS_MASTER_KEY"
        ),
        Error::BackupTooNew { migrations, muster } => anyhow::anyhow!(
            "the backup is newer than this program: it has migrations {migrations:?}. It was made \
             by Muster {muster}: restore it with that version or a newer one"
        ),
        other => other.into(),
    }
}
