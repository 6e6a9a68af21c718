//! An embedded PostgreSQL: the real server as a child process, with its files in the data directory.
//!
//! The server belongs to the data directory, not to one process. Several Muster processes may use it at
//! once. The first one starts it, the others join, the last one stops it. Two lock files coordinate them:
//!
//! - `postgres.start.lock`, the *lifecycle lock*: exclusive, held while a process starts, joins,
//!   leaves or stops PostgreSQL.
//! - `postgres.lock`, the *usage lock*: shared, held by each process from joining to leaving. The
//!   holder of the lifecycle lock tries to lock it exclusively, to learn whether it is the last
//!   user.
//!
//! The locks cover these cases:
//!
//! - One process leaves while another starts: only one of them holds the lifecycle lock. If the
//!   leaving process is first, the starting one waits until PostgreSQL is down and starts it again.
//!   If the starting process is first, it holds its usage lock before the leaving one tests it, so
//!   PostgreSQL keeps running.
//! - Two processes leave together: the first one sees the usage lock of the second and leaves; the
//!   second one is the last user.
//! - A process is killed: the kernel releases its locks. PostgreSQL keeps running, even without any
//!   user, until the next process joins and leaves.
//! - PostgreSQL dies while in use: the next holder of the lifecycle lock finds no listener and
//!   starts it again, while other processes keep their usage locks and their pools reconnect. With
//!   a single lock this would be impossible, because no process could lock it exclusively. Each
//!   running server also takes the lifecycle lock then, and starts PostgreSQL or joins it.
//! - The first process of PostgreSQL is killed alone, and another one does not detect this: the holder
//!   of the lifecycle lock ends it after some seconds, before it starts PostgreSQL again.
//! - A process is killed while it holds the lifecycle lock: the next holder finds a listener that
//!   is starting or stopping, waits, and joins it or starts it again. Or it finds the lock file of a
//!   PostgreSQL that does not listen yet, and waits for that. Or it removes an incomplete directory.
//!
//! The socket, not `postmaster.pid`, shows whether PostgreSQL runs, because a file can be out of date.

mod access;
mod cluster;
mod download;
mod download_error;
mod error;
mod found_versions;
mod installation;
mod layout;
mod leftovers;
mod lifecycle;
mod lock;
mod memory;
mod options;
mod owner;
mod process;
mod ready;
mod releases;
mod roles;
mod socket;
mod timeouts;
mod untrusted_file;
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
use self::lifecycle::{StartContext, StartedServer};
use self::lock::{LifecycleLock, UsageLock};
use self::owner::RunAs;
use self::process::Postmaster;
use self::socket::Socket;

/// The interval between checks whether PostgreSQL still runs.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// A running embedded PostgreSQL. It keeps running if this value is dropped without
/// [`EmbeddedPostgres::stop`].
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

/// The directories of this machine that may hold PostgreSQL's programs: only the configured one if
/// a directory is configured.
pub(super) fn program_dirs(options: &Options) -> Vec<PathBuf> {
    SearchPaths::for_this_machine(options).dirs()
}

/// A command that runs a program of PostgreSQL as Muster's user, with a clean environment.
pub(super) fn bare_command(program: &Path) -> Command {
    process::command(program, &RunAs::CurrentUser)
}

/// The last lines of a program's output.
pub(super) fn last_lines(output: &[u8]) -> String {
    process::last_lines(output)
}

/// The result of [`EmbeddedPostgres::stop`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopOutcome {
    /// No other process used PostgreSQL, which is now down.
    Stopped,
    /// Another process uses PostgreSQL, which still runs.
    StillInUse,
}

impl EmbeddedPostgres {
    /// Starts the PostgreSQL of a data directory, or joins it if it runs. The first start creates
    /// the data, with a role and a database `muster`.
    ///
    /// Usually takes well under a second. The first start takes a few seconds; recovery after a
    /// crash or a download takes minutes.
    ///
    /// # Errors
    /// Each error names its cause and a remedy.
    pub async fn start(options: &Options) -> Result<Self, EmbeddedError> {
        Self::start_process(options, &mut None).await
    }

    /// Like [`Self::start`], unless `stop` completes before. A PostgreSQL that this call has started
    /// is stopped then, for at most `stop_timeout`, and `None` is returned.
    ///
    /// # Errors
    /// Each error names its cause and a remedy.
    pub async fn start_unless(
        options: &Options,
        stop: impl Future<Output = ()>,
        stop_timeout: Duration,
    ) -> Result<Option<Self>, EmbeddedError> {
        let mut process = None;
        tokio::select! {
            started = Self::start_process(options, &mut process) => return started.map(Some),
            () = stop => {}
        }
        if let Some(postmaster) = process {
            tracing::info!("stopping the PostgreSQL that is starting");
            let data = layout::path(&options.data_dir);
            // PostgreSQL has its signal, and stops also after this process.
            let _ = lifecycle::shut_down(&postmaster, &data, stop_timeout).await;
        }
        Ok(None)
    }

    /// `process` is set as soon as this call has started a process, because the future may be
    /// dropped.
    async fn start_process(
        options: &Options,
        process: &mut Option<Postmaster>,
    ) -> Result<Self, EmbeddedError> {
        // The search for programs and the download need no lifecycle lock. An error up to here
        // leaves no new directory behind.
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
        let lock = LifecycleLock::acquire_in(&data_dir, options.timeouts.lock).await?;
        let usage = UsageLock::register(&data_dir.join("postgres.lock"), &lock)?;
        let context = StartContext { options, data_dir: &data_dir, data: &data };
        let mut started = |postmaster| *process = Some(postmaster);
        let StartedServer { postmaster, is_shared: joined, version } =
            context.start_or_join(installation, &lock, &usage, &mut started).await?;
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

    /// Options for a connection by Unix socket, as `muster`, to the database `muster`. They are
    /// valid until this value is stopped or dropped.
    #[must_use]
    pub fn connect_options(&self) -> PgConnectOptions {
        self.socket.connect_options()
    }

    /// Whether PostgreSQL ran already when this process started or joined it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// The version of the server.
    #[must_use]
    pub fn version(&self) -> PostgresVersion {
        self.version
    }

    /// Waits until PostgreSQL no longer runs.
    pub async fn wait_ended(&self) {
        loop {
            // A server in another container has no process id here; only its socket shows whether
            // it runs.
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

    /// Starts PostgreSQL again after it has ended, or joins it if another process was faster. Pools
    /// made with [`Self::connect_options`] can connect again.
    ///
    /// The future may be dropped early: [`Self::stop`] then stops the process that it had started.
    ///
    /// # Errors
    /// The errors of [`Self::start`], and [`EmbeddedError::NoDatabase`] when the data are gone.
    pub async fn restart(&mut self) -> Result<(), EmbeddedError> {
        if !cluster::is_initialized(&self.data_dir)? {
            return Err(EmbeddedError::NoDatabase { data_dir: self.data_dir.clone() });
        }
        let lock = LifecycleLock::acquire_in(&self.data_dir, self.options.timeouts.lock).await?;
        let context =
            StartContext { options: &self.options, data_dir: &self.data_dir, data: &self.data };
        let postmaster = &mut self.postmaster;
        let mut started = |new| *postmaster = new;
        let started_server = context.start_or_join(None, &lock, &self.usage, &mut started).await?;
        StartedServer {
            postmaster: self.postmaster,
            is_shared: self.is_shared,
            version: self.version,
        } = started_server;
        Ok(())
    }

    /// Leaves PostgreSQL, and stops it if no other process uses it. Its sessions are ended and all
    /// data are written to the disk. After 30 s PostgreSQL is stopped at once and recovers at its
    /// next start.
    ///
    /// # Errors
    /// When PostgreSQL cannot be stopped, or when other users of it cannot be detected.
    pub async fn stop(self) -> Result<StopOutcome, EmbeddedError> {
        self.stop_within(lifecycle::STOP_TIMEOUT).await
    }

    /// Like [`Self::stop`] with another limit than 30 s, and at most 2 s more for the stop at once.
    ///
    /// # Errors
    /// The errors of [`Self::stop`].
    pub async fn stop_within(mut self, timeout: Duration) -> Result<StopOutcome, EmbeddedError> {
        let started_at = Instant::now();
        let lock_timeout = self.options.timeouts.lock.min(timeout);
        let lock = match LifecycleLock::acquire_in(&self.data_dir, lock_timeout).await {
            Ok(lock) => lock,
            // A process that holds the lifecycle lock for this long is starting PostgreSQL, so it
            // is a user.
            Err(EmbeddedError::Busy { .. }) => return Ok(StopOutcome::StillInUse),
            Err(error) => return Err(error),
        };
        if !self.usage.try_exclusive(&lock)? {
            tracing::info!(data = %self.data.display(), "leaving PostgreSQL running: others use it");
            return Ok(StopOutcome::StillInUse);
        }
        // Another process may have started PostgreSQL again and left.
        if let Some(listener) = self.socket.listener().await {
            self.postmaster = listener;
        }
        if self.postmaster.pid().is_none() {
            tracing::warn!(data = %self.data.display(), "leaving PostgreSQL running: it runs in another container");
            return Ok(StopOutcome::StillInUse);
        }
        let remaining = timeout.saturating_sub(started_at.elapsed());
        lifecycle::shut_down(&self.postmaster, &self.data, remaining).await?;
        tracing::info!(data = %self.data.display(), millis = started_at.elapsed().as_millis(), "stopped PostgreSQL");
        Ok(StopOutcome::Stopped)
    }
}
