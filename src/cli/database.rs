//! The database of a command or a server, the configured or the embedded one, with its master keys.

use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::postgres::PgConnectOptions;

use super::actor;
use super::postgres_supervisor::Keeper;
use super::shutdown_signal::Stopper;
use crate::clock::Clock;
use crate::config::{KeyText, Settings};
use crate::repository::audit::{Act, Actor};
use crate::repository::embedded::{self, DataDir, EmbeddedError, EmbeddedPostgres, Patience};
use crate::repository::migrations::{self, Standing};
use crate::repository::{Error, KeyFile, Keyring, PgPool, changes, pool, sealing};
use crate::wire::{MasterKey, MasterKeyId};

/// How long a command waits for the servers to hear of what it changed.
const HEARD_WITHIN: Duration = Duration::from_secs(3);

/// An open database, and the keys to its secrets.
pub(super) struct Store {
    pub(super) pool: PgPool,
    pub(super) keyring: Arc<Keyring>,
    actor: Actor,
    embedded: Option<Embedded>,
}

enum Embedded {
    /// Left to itself, for as long as a command takes.
    Bare(Box<EmbeddedPostgres>),
    Kept(Keeper),
}

impl Store {
    /// Connects, after starting the embedded PostgreSQL if that is the one and it does not run.
    pub(super) async fn open(settings: &Settings) -> anyhow::Result<Self> {
        Self::open_within(settings, Patience::COMMAND).await
    }

    /// The same, and says how long a database that does not answer is waited for: no longer than
    /// `database.acquire_timeout` if it is an external one.
    pub(super) async fn open_within(
        settings: &Settings,
        patience: Patience,
    ) -> anyhow::Result<Self> {
        let (options, embedded) = match &settings.database.url {
            Some(url) => {
                let options = PgConnectOptions::from_str(url.expose())
                    .with_context(|| format!("database.url: {url} cannot be used"))?;
                let within = settings.database.acquire_timeout.min(patience.answer);
                pool::reach(&options, within).await.context(UNREACHABLE)?;
                (options, None)
            }
            None => {
                let options = embedded::Options { patience, ..embedded_options(settings) };
                let embedded = EmbeddedPostgres::start(&options).await?;
                (embedded.connect_options(), Some(Embedded::Bare(Box::new(embedded))))
            }
        };
        let pool = pool::connect(options, pool_limits(settings));
        let keyring = Arc::new(keyring(settings));
        Ok(Self { pool, keyring, actor: actor::current(), embedded })
    }

    /// The same, but makes no embedded database where there is none: a command that only reads would
    /// show an empty one, which hides that data_dir is wrong.
    pub(super) async fn open_existing(settings: &Settings) -> anyhow::Result<Self> {
        let data_dir = &settings.data_dir;
        if settings.database.url.is_none() {
            embedded::look(data_dir)?;
            if !embedded::initialised(data_dir)? {
                return Err(EmbeddedError::NoDatabase { data_dir: data_dir.clone() }.into());
            }
        }
        Self::open(settings).await
    }

    /// Warns when others can enter the directory of an embedded database. PostgreSQL's own files stay
    /// closed to them.
    pub(super) fn warn_of_others(&self, settings: &Settings) {
        let data_dir = settings.data_dir.display();
        if self.is_embedded() && embedded::look(&settings.data_dir).is_ok_and(DataDir::is_open) {
            tracing::warn!(
                "others may enter {data_dir}: keep them out with `chmod 700 {data_dir}`"
            );
        }
    }

    /// From now on an embedded PostgreSQL that dies is started again, until the process is told to
    /// stop. The pool reconnects by itself.
    pub(super) fn keep(mut self, stopper: Stopper) -> Self {
        self.embedded = self.embedded.map(|embedded| match embedded {
            Embedded::Bare(embedded) => Embedded::Kept(Keeper::start(*embedded, stopper)),
            kept @ Embedded::Kept(_) => kept,
        });
        self
    }

    /// Who does what is done here now.
    pub(super) fn act(&self, clock: &Clock) -> Act<'_> {
        Act { by: &self.actor, at: clock.now() }
    }

    /// Makes sure that the tables are those of this program, for commands that use them.
    pub(super) async fn current(self, settings: &Settings, clock: &Clock) -> anyhow::Result<Self> {
        let store = self;
        match store.make_current(settings, clock).await {
            Ok(()) => Ok(store),
            Err(error) => {
                store.close().await;
                Err(error)
            }
        }
    }

    async fn make_current(&self, settings: &Settings, clock: &Clock) -> anyhow::Result<()> {
        if !settings.database.migrate
            && let Standing::Pending(pending) = self.standing().await?
        {
            anyhow::bail!("migrations pending: {}; run `muster migrate`", pending.len());
        }
        self.migrate(clock).await?;
        Ok(())
    }

    /// How the tables stand to this program.
    pub(super) async fn standing(&self) -> anyhow::Result<Standing> {
        migrations::standing(&self.pool).await.context(UNREACHABLE)
    }

    /// Applies pending migrations, and seals the secrets where that is the first time. Refuses a
    /// wrong master key, and before anything is changed none at all.
    pub(super) async fn migrate(
        &self,
        clock: &Clock,
    ) -> anyhow::Result<Vec<migrations::Migration>> {
        self.keyring.load()?;
        let applied = migrations::run(&self.pool).await.map_err(|error| match error {
            migrations::MigrationError::Database(error) => {
                anyhow::Error::from(error).context(UNREACHABLE)
            }
            other => other.into(),
        })?;
        for migration in &applied {
            tracing::info!(version = migration.version, "migrated: {}", migration.description);
        }
        let sealed = sealing::adopt(&self.pool, &self.keyring, self.act(clock)).await;
        if let Some(sealed) = sealed.map_err(wrong_key)? {
            tracing::info!(master_key = %sealed.id, apps = sealed.apps, "sealed the secrets");
        }
        Ok(applied)
    }

    /// Makes sure that the secrets are sealed, with a key that is here.
    pub(super) async fn verify_key(&self) -> anyhow::Result<()> {
        self.keyring.load()?;
        sealing::verify(&self.pool, &self.keyring).await.map_err(wrong_key)?;
        Ok(())
    }

    /// Asks all running servers whether they have a master key. Gives how many did not say so.
    pub(super) async fn confirm(&self, id: MasterKeyId) -> anyhow::Result<u64> {
        Ok(changes::heard_by_all(&self.pool, HEARD_WITHIN, Some(id)).await?)
    }

    /// Waits until every running server knows what was changed, so that it holds when the command
    /// returns.
    pub(super) async fn announce(&self) {
        match changes::heard_by_all(&self.pool, HEARD_WITHIN, None).await {
            Ok(0) => {}
            Ok(missing) => tracing::warn!(
                servers = missing,
                "changed, but not every running server has confirmed it: give them some seconds"
            ),
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "changed, but it is not known whether running servers have heard of it"
            ),
        }
    }

    /// Whether this is the embedded database.
    pub(super) fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// Disconnects, and stops the embedded PostgreSQL unless somebody else uses it.
    pub(super) async fn close(self) {
        // First, as nothing must be started again for connections that are being closed.
        let embedded = match self.embedded {
            Some(Embedded::Kept(keeper)) => keeper.end().await,
            Some(Embedded::Bare(embedded)) => Some(*embedded),
            None => None,
        };
        self.pool.close().await;
        if let Some(embedded) = embedded
            && let Err(error) = embedded.stop().await
        {
            tracing::error!(error = &error as &dyn std::error::Error, "PostgreSQL did not stop");
        }
    }
}

const UNREACHABLE: &str =
    "the database cannot be used: check database.url and that PostgreSQL runs (`muster doctor`)";

/// An error of the sealing, with the remedy where there is one.
fn wrong_key(error: Error) -> anyhow::Error {
    match error {
        Error::MasterKeyUnknown { .. } => anyhow::Error::from(error).context(WRONG_KEY),
        other => other.into(),
    }
}

/// What to do about a master key that is missing.
pub(super) const WRONG_KEY: &str = "the master key of this database is not here: restore the file of master keys (master.key in \
     data_dir, else secrets.master_key_file) or MUSTER__SECRETS__MASTER_KEY as it was when the \
     database, or the backup that it comes from, was last used";

/// The master keys, as they are configured.
pub(super) fn keyring(settings: &Settings) -> Keyring {
    let secrets = &settings.secrets;
    let key = |text: &KeyText| MasterKey::new(*text.bytes());
    let file = match (&secrets.master_key_file, &settings.database.url) {
        (Some(path), _) => Some(KeyFile { path: path.clone(), make: false }),
        (None, None) => Some(KeyFile { path: own_key_file(settings), make: true }),
        // Another server of that database could not know what is made up here.
        (None, Some(_)) => None,
    };
    let (first, last) = (secrets.master_key.as_ref(), secrets.previous_master_key.as_ref());
    Keyring::new(first.map(key), file, last.map(key))
}

/// The file of master keys of an embedded database.
pub(super) fn own_key_file(settings: &Settings) -> PathBuf {
    settings.data_dir.join("master.key")
}

/// How the database is used, as it is configured: a request must begin its work there, and that
/// must end, while there is still time to answer.
#[must_use]
pub fn pool_limits(settings: &Settings) -> pool::Limits {
    let (database, whole) = (&settings.database, settings.server.request_timeout);
    pool::Limits {
        max_connections: database.max_connections,
        acquire_timeout: database.acquire_timeout.min(whole / 2),
        statement_timeout: database.statement_timeout.min(whole * 2 / 5),
    }
}

/// What the embedded PostgreSQL needs to know of the configuration.
pub(super) fn embedded_options(settings: &Settings) -> embedded::Options {
    embedded::Options {
        data_dir: settings.data_dir.clone(),
        programs_dir: settings.database.postgres_dir.clone(),
        download: settings.database.download,
        max_connections: settings.database.max_connections,
        patience: Patience::COMMAND,
    }
}
