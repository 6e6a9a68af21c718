//! The database of a command or a server: the configured one, or the embedded one.

use std::str::FromStr as _;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;

use super::keeper::Keeper;
use super::stopper::Stopper;
use crate::config::Settings;
use crate::repository::changes;
use crate::repository::embedded::{self, DataDir, EmbeddedError, EmbeddedPostgres};
use crate::repository::migrations::{self, Standing};
use crate::repository::pool;

/// How long a command waits for the servers to hear of what it changed.
const HEARD_WITHIN: Duration = Duration::from_secs(3);

/// An open database.
pub(super) struct Store {
    pub(super) pool: PgPool,
    embedded: Option<Embedded>,
}

enum Embedded {
    /// Left to itself, for as long as a command takes.
    Bare(EmbeddedPostgres),
    Kept(Keeper),
}

impl Store {
    /// Connects, after starting the embedded PostgreSQL if that is the one and it does not run.
    pub(super) async fn open(settings: &Settings) -> anyhow::Result<Self> {
        let (options, embedded) = match &settings.database.url {
            Some(url) => {
                let options = PgConnectOptions::from_str(url.expose())
                    .with_context(|| format!("database.url: {url} cannot be used"))?;
                let within = settings.database.acquire_timeout;
                pool::reach(&options, within).await.context(UNREACHABLE)?;
                (options, None)
            }
            None => {
                let embedded = EmbeddedPostgres::start(&embedded_options(settings)).await?;
                (embedded.connect_options(), Some(Embedded::Bare(embedded)))
            }
        };
        Ok(Self { pool: pool::connect(options, pool_limits(settings)), embedded })
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
            Embedded::Bare(embedded) => Embedded::Kept(Keeper::start(embedded, stopper)),
            kept @ Embedded::Kept(_) => kept,
        });
        self
    }

    /// Makes sure that the tables are those of this program, for commands that use them.
    pub(super) async fn current(self, settings: &Settings) -> anyhow::Result<Self> {
        let store = self;
        match store.make_current(settings).await {
            Ok(()) => Ok(store),
            Err(error) => {
                store.close().await;
                Err(error)
            }
        }
    }

    async fn make_current(&self, settings: &Settings) -> anyhow::Result<()> {
        if !settings.database.migrate
            && let Standing::Pending(pending) = self.standing().await?
        {
            anyhow::bail!("migrations pending: {}; run `muster migrate`", pending.len());
        }
        self.migrate().await?;
        Ok(())
    }

    /// How the tables stand to this program.
    pub(super) async fn standing(&self) -> anyhow::Result<Standing> {
        migrations::standing(&self.pool).await.context(UNREACHABLE)
    }

    /// Applies pending migrations.
    pub(super) async fn migrate(&self) -> anyhow::Result<Vec<migrations::Migration>> {
        let applied = migrations::run(&self.pool).await.map_err(|error| match error {
            migrations::MigrationError::Database(error) => {
                anyhow::Error::from(error).context(UNREACHABLE)
            }
            other => other.into(),
        })?;
        for migration in &applied {
            tracing::info!(version = migration.version, "migrated: {}", migration.description);
        }
        Ok(applied)
    }

    /// Waits until every running server knows what was changed, so that it holds when the command
    /// returns.
    pub(super) async fn announce(&self) {
        match changes::heard_by_all(&self.pool, HEARD_WITHIN).await {
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
            Some(Embedded::Bare(embedded)) => Some(embedded),
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

/// How the database is used, as it is configured: a request must begin its work there, and that
/// must end, while there is still time to answer.
#[must_use]
pub fn pool_limits(settings: &Settings) -> pool::Limits {
    let (database, whole) = (&settings.database, settings.server.request_timeout);
    pool::Limits {
        max_connections: database.max_connections,
        acquire_timeout: database.acquire_timeout.min(whole / 2),
        statement_timeout: database.statement_timeout.min(whole * 9 / 20),
    }
}

/// What the embedded PostgreSQL needs to know of the configuration.
pub(super) fn embedded_options(settings: &Settings) -> embedded::Options {
    embedded::Options {
        data_dir: settings.data_dir.clone(),
        programs_dir: settings.database.postgres_dir.clone(),
        download: settings.database.download,
        max_connections: settings.database.max_connections,
    }
}
