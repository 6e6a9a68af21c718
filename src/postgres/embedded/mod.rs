//! A PostgreSQL of our own: the real server as a child process, its files in the data directory.
//!
//! The server belongs to the data directory, not to one process. Several Muster processes may use
//! it at once, such as a server and a command: the first one starts it, the others join, the last
//! one stops it. Two lock files coordinate them:
//!
//! - `postgres.start.lock`, the *turn*: exclusive, held while a process starts, joins, leaves or
//!   stops it.
//! - `postgres.lock`, the *use*: shared, held by each process from joining to leaving. A process
//!   that has the turn tries to get it exclusively, to learn whether it is the last user.
//!
//! Why that is safe:
//!
//! - One process leaves while another starts: one of them has the turn. If the leaver is first, the
//!   starter waits until PostgreSQL is down and starts it again. If the starter is first, it holds
//!   its use before the leaver asks, so the leaver lets PostgreSQL run.
//! - Two processes leave together: the first sees the use of the second and leaves; the second
//!   finds itself the last.
//! - A process is killed: the kernel drops its locks. PostgreSQL goes on, even without any user,
//!   until the next process joins and leaves.
//! - PostgreSQL dies while in use: the next process that gets the turn finds no listener and starts
//!   it again, though others still hold their use. Their pools reconnect. A single lock could not
//!   allow this, because it could not be had exclusively. A server takes the turn itself: it starts
//!   PostgreSQL, or finds it started.
//! - A process is killed during its turn: the next one finds a listener that is starting or
//!   stopping, waits, and joins it or starts it again; or it finds a half-made directory, and
//!   removes it.
//!
//! Its socket shows whether PostgreSQL runs, not `postmaster.pid`: a file can be out of date, a
//! listening process cannot.

mod cluster;
mod download;
mod download_error;
mod error;
mod found_versions;
mod installation;
mod layout;
mod lifecycle;
mod lock;
mod memory;
mod options;
mod owner;
mod process;
mod ready;
mod socket;
mod timeouts;
mod version;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;

pub use self::cluster::{DataDir, inspect, is_initialized};
pub use self::download_error::DownloadError;
pub use self::error::EmbeddedError;
pub use self::found_versions::FoundVersions;
pub use self::installation::Installation;
pub use self::options::Options;
pub use self::timeouts::StartupTimeouts;
pub use self::version::{InvalidVersion, PostgresVersion};

use self::installation::SearchPaths;
use self::lifecycle::{Launch, StartedServer};
use self::lock::{LifecycleLock, UsageLock};
use self::owner::RunAs;
use self::process::Postmaster;
use self::socket::Socket;

/// How often to look whether PostgreSQL still runs.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// A PostgreSQL that runs for us. Dropping it without [`EmbeddedPostgres::stop`] leaves it running.
#[derive(Debug)]
pub struct EmbeddedPostgres {
    options: Options,
    data_dir: PathBuf,
    data: PathBuf,
    socket: Socket,
    postmaster: Postmaster,
    is_shared: bool,
    version: PostgresVersion,
    usage: UsageLock,
}

/// The directories of this machine that may hold PostgreSQL's programs: the configured one alone,
/// if there is one.
pub(super) fn program_dirs(options: &Options) -> Vec<PathBuf> {
    SearchPaths::for_this_machine(options).dirs()
}

/// A command that runs a program of PostgreSQL as our own user, with a clean environment.
pub(super) fn bare_command(program: &Path) -> Command {
    process::command(program, &RunAs::CurrentUser)
}

/// The last lines of a program's output.
pub(super) fn last_lines(output: &[u8]) -> String {
    process::last_lines(output)
}

/// What [`EmbeddedPostgres::stop`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopOutcome {
    /// No other process used it; it is down.
    Stopped,
    /// Another process uses it; it still runs.
    StillInUse,
}

impl EmbeddedPostgres {
    /// Starts the PostgreSQL of a data directory, or joins it if it runs. The first start makes it,
    /// with a role and a database `muster`.
    ///
    /// Takes well under a second usually, a few seconds the first time, minutes when it recovers
    /// after a crash or when the programs are downloaded.
    ///
    /// # Errors
    /// Each names its cause and what to do.
    pub async fn start(options: &Options) -> Result<Self, EmbeddedError> {
        // Neither a search for programs nor a download needs the turn. A refusal here leaves no
        // directory behind.
        cluster::inspect(&options.data_dir)?;
        let data_dir = std::path::absolute(&options.data_dir)
            .map_err(EmbeddedError::file("find", &options.data_dir))?;
        let data = layout::path(&data_dir);
        let mut installation = None;
        if !cluster::is_initialized(&data_dir)?
            || Socket::for_cluster(&data)?.listener().await.is_none()
        {
            installation = Some(lifecycle::find_installation(options, &data).await?);
        }

        let data_dir = cluster::open_data_dir(&data_dir)?;
        let data = layout::path(&data_dir);
        let lock = acquire_lifecycle_lock(options, &data_dir).await?;
        let usage = UsageLock::register(&data_dir.join("postgres.lock"), &lock)?;
        let launch = Launch { options, data_dir: &data_dir, data: &data };
        let StartedServer { postmaster, is_shared: joined, version } =
            launch.start_or_join(installation, &lock, &usage, &mut |_| {}).await?;
        let socket = Socket::for_cluster(&data)?;
        Ok(Self {
            options: options.clone(),
            data_dir,
            data,
            socket,
            postmaster,
            is_shared: joined,
            version,
            usage,
        })
    }

    /// How to connect: by Unix socket, as `muster`, to the database `muster`. Valid until this
    /// value is stopped or dropped.
    #[must_use]
    pub fn connect_options(&self) -> PgConnectOptions {
        self.socket.connect_options(socket::NAME)
    }

    /// Whether it ran already when this process came.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// The version of the server.
    #[must_use]
    pub fn version(&self) -> PostgresVersion {
        self.version
    }

    /// Waits until it runs no more.
    pub async fn wait_ended(&self) {
        loop {
            // A server in another container has no process id here; only its socket shows it.
            let is_running = match self.postmaster.pid() {
                Some(_) => self.postmaster.is_running(),
                None => self.socket.listener().await.is_some(),
            };
            if !is_running {
                return;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Starts it again after it has ended, or joins it if another process was faster. Pools made
    /// with [`Self::connect_options`] can connect again.
    ///
    /// May be dropped before it is done: [`Self::stop`] then stops what it had started.
    ///
    /// # Errors
    /// As for [`Self::start`], and when the data are gone.
    pub async fn restart(&mut self) -> Result<(), EmbeddedError> {
        if !cluster::is_initialized(&self.data_dir)? {
            return Err(EmbeddedError::NoDatabase { data_dir: self.data_dir.clone() });
        }
        let lock = acquire_lifecycle_lock(&self.options, &self.data_dir).await?;
        let launch = Launch { options: &self.options, data_dir: &self.data_dir, data: &self.data };
        let postmaster = &mut self.postmaster;
        let mut started = |new| *postmaster = new;
        let started_server = launch.start_or_join(None, &lock, &self.usage, &mut started).await?;
        StartedServer {
            postmaster: self.postmaster,
            is_shared: self.is_shared,
            version: self.version,
        } = started_server;
        Ok(())
    }

    /// Leaves it, and stops it if no other process uses it: its sessions are ended and everything
    /// is written to the disk. Work that is not done after 30 s is dropped, and recovered at the
    /// next start.
    ///
    /// # Errors
    /// When it cannot be stopped, or when it is unknown whether another process uses it.
    pub async fn stop(mut self) -> Result<StopOutcome, EmbeddedError> {
        let lock = match acquire_lifecycle_lock(&self.options, &self.data_dir).await {
            Ok(lock) => lock,
            // A process that holds the turn for so long is starting, so it is a user.
            Err(EmbeddedError::Busy { .. }) => return Ok(StopOutcome::StillInUse),
            Err(error) => return Err(error),
        };
        if !self.usage.try_exclusive(&lock)? {
            tracing::info!(data = %self.data.display(), "leaving PostgreSQL running: others use it");
            return Ok(StopOutcome::StillInUse);
        }
        // Another process may have started it again and left.
        if let Some(listener) = self.socket.listener().await {
            self.postmaster = listener;
        }
        if self.postmaster.pid().is_none() {
            tracing::warn!(data = %self.data.display(), "leaving PostgreSQL running: it runs in another container");
            return Ok(StopOutcome::StillInUse);
        }
        let started_at = Instant::now();
        lifecycle::shut_down(&self.postmaster, &self.data).await?;
        tracing::info!(data = %self.data.display(), millis = started_at.elapsed().as_millis(), "stopped PostgreSQL");
        Ok(StopOutcome::Stopped)
    }
}

/// Waits for the turn to start or stop the PostgreSQL of a data directory.
async fn acquire_lifecycle_lock(
    options: &Options,
    data_dir: &Path,
) -> Result<LifecycleLock, EmbeddedError> {
    LifecycleLock::acquire(&data_dir.join("postgres.start.lock"), options.timeouts.lock).await
}
