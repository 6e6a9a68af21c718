//! The database of a command or a server, configured or embedded, and its master keys. This file
//! builds the pool, the keyring and the embedded PostgreSQL. It runs no statement.

use std::sync::Arc;
use std::time::Duration;

use super::args::CreateDatabase;
use super::explain::{explain, unreachable};
use super::external_database::{self, NoPrimary};
use super::postgres_supervisor::PostgresSupervisor;
use super::shutdown_signal::ShutdownSignal;
use super::{actor, master_keys};
use crate::clock::Clock;
use crate::config::{DatabaseUrl, Settings};
use crate::keyring::Keyring;
use crate::postgres::embedded::{self, DataDir, EmbeddedError, EmbeddedPostgres, StartupTimeouts};
use crate::repository::Pool;
use crate::repository::connections::pool::{self, PoolLimits};
use crate::service::admin::{AdminContext, schema};
use crate::telemetry::cause_chain;

/// The limit for the regular stop of the embedded PostgreSQL by a command.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// The limit for the end of the connections.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// An open database, and the keys to its secrets.
pub(super) struct Database {
    pub(super) pool: Pool,
    pub(super) keyring: Arc<Keyring>,
    embedded: Option<EmbeddedServer>,
}

enum EmbeddedServer {
    /// Started by a command, not supervised.
    Unsupervised(Box<EmbeddedPostgres>),
    /// Started by a server, and restarted if it dies.
    Supervised(PostgresSupervisor),
}

impl Database {
    /// Connects. An embedded PostgreSQL that does not run is started first.
    pub(super) async fn open(settings: &Settings) -> anyhow::Result<Self> {
        Self::open_with_timeouts(settings, StartupTimeouts::COMMAND).await
    }

    /// Connects for a server, which waits longer than a command for an embedded PostgreSQL. `None` if
    /// a stop is requested before.
    pub(super) async fn open_for_server(
        settings: &Settings,
        shutdown_signal: &ShutdownSignal,
    ) -> anyhow::Result<Option<Self>> {
        let (timeouts, stop) = (StartupTimeouts::SERVER, shutdown_signal.requested());
        if settings.database.url.is_some() {
            return tokio::select! {
                database = Self::open_primary(settings, timeouts) => database.map(Some),
                () = stop => Ok(None),
            };
        }
        let options = embedded::Options { timeouts, ..embedded_options(settings) };
        let stop_timeout = settings.server.shutdown_timeout;
        match EmbeddedPostgres::start_unless(&options, stop, stop_timeout).await? {
            Some(embedded) => Self::on_embedded(embedded, settings, timeouts).await.map(Some),
            None => Ok(None),
        }
    }

    /// Connects to the primary of an external database, and waits for one while only standbys
    /// answer.
    async fn open_primary(settings: &Settings, timeouts: StartupTimeouts) -> anyhow::Result<Self> {
        external_database::wait_for_primary(timeouts.ready, async || {
            let database = Self::open_with_timeouts(settings, timeouts).await?;
            match pool::check_primary(&database.pool).await {
                Err(error) if error.is_read_only() => {
                    database.close().await;
                    Err(NoPrimary::new(&error).into())
                }
                // Any other error is found again by the first statement.
                Ok(()) | Err(_) => Ok(database),
            }
        })
        .await
    }

    /// A database that is not asked for anything yet, for a diagnosis of its servers.
    pub(super) fn unchecked(settings: &Settings, url: &DatabaseUrl) -> anyhow::Result<Self> {
        let pool = external_database::configured_pool(
            &settings.database,
            url,
            PoolLimits::from_settings(settings),
        )?;
        let keyring = Arc::new(master_keys::keyring(settings));
        Ok(Self { pool, keyring, embedded: None })
    }

    /// Connects for a diagnosis, which has shorter timeouts than a command and downloads nothing.
    pub(super) async fn open_for_diagnosis(settings: &Settings) -> anyhow::Result<Self> {
        let mut settings = settings.clone();
        settings.database.download = false;
        Self::open_with_timeouts(&settings, StartupTimeouts::PROBE).await
    }

    /// Connects, and waits for a database that does not answer. The limit for an external database
    /// is `database.acquire_timeout`.
    async fn open_with_timeouts(
        settings: &Settings,
        timeouts: StartupTimeouts,
    ) -> anyhow::Result<Self> {
        if let Some(url) = &settings.database.url {
            let timeout = settings.database.acquire_timeout.min(timeouts.ready);
            let pool = external_database::configured_pool(
                &settings.database,
                url,
                PoolLimits::from_settings(settings),
            )?;
            return Self::checked(pool, None, settings, timeout).await;
        }
        let options = embedded::Options { timeouts, ..embedded_options(settings) };
        let embedded = EmbeddedPostgres::start(&options).await?;
        Self::on_embedded(embedded, settings, timeouts).await
    }

    async fn on_embedded(
        embedded: EmbeddedPostgres,
        settings: &Settings,
        timeouts: StartupTimeouts,
    ) -> anyhow::Result<Self> {
        let pool = pool::connect(embedded.connect_options(), PoolLimits::from_settings(settings));
        let server = EmbeddedServer::Unsupervised(Box::new(embedded));
        Self::checked(pool, Some(server), settings, timeouts.ready).await
    }

    /// Checks that Muster can use the database.
    async fn checked(
        pool: Pool,
        embedded: Option<EmbeddedServer>,
        settings: &Settings,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let database = Self { pool, keyring: Arc::new(master_keys::keyring(settings)), embedded };
        match pool::check_usable(&database.pool, timeout).await {
            Ok(()) => Ok(database),
            Err(error) => {
                database.close().await;
                Err(if error.is_unsupported_encoding() {
                    UnsupportedEncoding(error.to_string()).into()
                } else if error.is_read_only() {
                    NoPrimary::new(&error).into()
                } else {
                    unreachable(error)
                })
            }
        }
    }

    /// Like [`Database::open`], but refuses to create an embedded database. A command that reads
    /// would otherwise show an empty database and hide a wrong data_dir.
    pub(super) async fn open_existing(settings: &Settings) -> anyhow::Result<Self> {
        let data_dir = &settings.data_dir;
        if settings.database.url.is_none() {
            embedded::inspect(data_dir)?;
            if !embedded::is_initialized(data_dir)? {
                return Err(EmbeddedError::NoDatabase { data_dir: data_dir.clone() }.into());
            }
        }
        Self::open(settings).await
    }

    /// Like [`Database::open`] if `flag` is given, else like [`Database::open_existing`]: a command in
    /// the wrong directory would otherwise create a second database without an error.
    pub(super) async fn open_with(
        settings: &Settings,
        flag: CreateDatabase,
    ) -> anyhow::Result<Self> {
        match flag.create_database {
            true => Self::open(settings).await,
            false => Self::open_existing(settings).await,
        }
    }

    /// Warns if other users can enter the directory of an embedded database. They cannot enter
    /// PostgreSQL's own directory in it.
    pub(super) fn warn_if_accessible(&self, settings: &Settings) {
        let data_dir = settings.data_dir.display();
        if self.is_embedded() && embedded::inspect(&settings.data_dir).is_ok_and(DataDir::is_open) {
            tracing::warn!(
                "other users may enter {data_dir}: prevent it with `chmod 700 {data_dir}`"
            );
        }
    }

    /// Supervises an embedded PostgreSQL: restarts it if it dies, until the process stops. The pool
    /// reconnects by itself.
    pub(super) fn supervise(mut self, shutdown_signal: ShutdownSignal) -> Self {
        self.embedded = self.embedded.map(|embedded| match embedded {
            EmbeddedServer::Unsupervised(embedded) => {
                EmbeddedServer::Supervised(PostgresSupervisor::start(*embedded, shutdown_signal))
            }
            supervised @ EmbeddedServer::Supervised(_) => supervised,
        });
        self
    }

    /// The context of the operator use cases, for the user of this process.
    pub(super) fn admin(&self, clock: &Clock) -> AdminContext {
        AdminContext::new(self.pool.clone(), self.keyring.clone(), actor::current(), clock.clone())
    }

    /// Makes sure that the schema is current, for commands that use the tables.
    pub(super) async fn ensure_current(
        self,
        settings: &Settings,
        clock: &Clock,
    ) -> anyhow::Result<Self> {
        match schema::prepare(&self.admin(clock), settings.database.migrate).await {
            Ok(()) => Ok(self),
            Err(error) => {
                self.close().await;
                Err(explain(error))
            }
        }
    }

    /// Whether the database is embedded.
    pub(super) fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// Disconnects, and stops the embedded PostgreSQL unless another process uses it.
    pub(super) async fn close(self) {
        self.close_within(STOP_TIMEOUT).await;
    }

    /// The same, with a limit for the regular stop of PostgreSQL. A silent database may take 3 s more:
    /// to disconnect, and for a stop at once.
    pub(super) async fn close_within(self, timeout: Duration) {
        // The supervisor ends first. It would otherwise restart PostgreSQL for connections that are
        // closed.
        let embedded = match self.embedded {
            Some(EmbeddedServer::Supervised(supervisor)) => supervisor.stop().await,
            Some(EmbeddedServer::Unsupervised(embedded)) => Some(*embedded),
            None => None,
        };
        let _ = tokio::time::timeout(DISCONNECT_TIMEOUT, self.pool.close()).await;
        if let Some(embedded) = embedded
            && let Err(error) = embedded.stop_within(timeout).await
        {
            tracing::error!(error = %cause_chain(&error), "PostgreSQL did not stop");
        }
    }
}

/// A database whose encoding lacks characters that a title or an account may have.
#[derive(Debug, thiserror::Error)]
#[error("{0}: {remedy}", remedy = Self::REMEDY)]
pub(super) struct UnsupportedEncoding(pub(super) String);

impl UnsupportedEncoding {
    pub(super) const REMEDY: &str = "create another database with \
        `create database NAME encoding 'UTF8' template template0`, and use that one";
}

/// A pool for a database other than the configured one. It connects on first use.
pub(super) fn connect_to(url: &DatabaseUrl, settings: &Settings) -> anyhow::Result<Pool> {
    Ok(pool::connect(external_database::servers(url)?, PoolLimits::from_settings(settings)))
}

/// The options of the embedded PostgreSQL, from the configuration.
pub(super) fn embedded_options(settings: &Settings) -> embedded::Options {
    embedded::Options {
        data_dir: settings.data_dir.clone(),
        postgres_dir: settings.database.postgres_dir.clone(),
        download: settings.database.download,
        max_connections: settings.database.max_connections,
        timeouts: StartupTimeouts::COMMAND,
    }
}
