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

pub use self::cluster::{DataDir, initialised, look};
pub use self::download_error::DownloadError;
pub use self::error::EmbeddedError;
pub use self::found_versions::Found;
pub use self::installation::Programs;
pub use self::options::Options;
pub use self::timeouts::Patience;
pub use self::version::{NotAVersion, PostgresVersion};

use self::installation::Places;
use self::lifecycle::{Place, Up};
use self::lock::{Turn, Use};
use self::owner::RunAs;
use self::process::Postmaster;
use self::socket::Socket;

/// How often to look whether PostgreSQL still runs.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A PostgreSQL that runs for us. Dropping it without [`EmbeddedPostgres::stop`] leaves it running.
#[derive(Debug)]
pub struct EmbeddedPostgres {
    options: Options,
    data_dir: PathBuf,
    data: PathBuf,
    socket: Socket,
    postmaster: Postmaster,
    joined: bool,
    version: PostgresVersion,
    in_use: Use,
}

/// The directories of this machine that may hold PostgreSQL's programs: the configured one alone,
/// if there is one.
pub(super) fn program_dirs(options: &Options) -> Vec<PathBuf> {
    Places::of_this_machine(options).dirs()
}

/// A command that runs a program of PostgreSQL as our own user, with a clean environment.
pub(super) fn bare_command(program: &Path) -> Command {
    process::command(program, &RunAs::Ourselves)
}

/// The last lines of a program's output.
pub(super) fn tail(said: &[u8]) -> String {
    process::tail(said)
}

/// What [`EmbeddedPostgres::stop`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// No other process used it; it is down.
    Stopped,
    /// Another process uses it; it still runs.
    StillUsed,
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
        cluster::look(&options.data_dir)?;
        let data_dir = std::path::absolute(&options.data_dir)
            .map_err(EmbeddedError::file("find", &options.data_dir))?;
        let data = layout::path(&data_dir);
        let mut programs = None;
        if !cluster::initialised(&data_dir)? || Socket::of(&data)?.listener().await.is_none() {
            programs = Some(lifecycle::programs(options, &data).await?);
        }

        let data_dir = cluster::open_data_dir(&data_dir)?;
        let data = layout::path(&data_dir);
        let turn = take_turn(options, &data_dir).await?;
        let in_use = Use::sign_on(&data_dir.join("postgres.lock"), &turn)?;
        let place = Place { options, data_dir: &data_dir, data: &data };
        let Up { postmaster, joined, version } =
            place.bring_up(programs, &turn, &in_use, &mut |_| {}).await?;
        let socket = Socket::of(&data)?;
        Ok(Self {
            options: options.clone(),
            data_dir,
            data,
            socket,
            postmaster,
            joined,
            version,
            in_use,
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
    pub fn joined(&self) -> bool {
        self.joined
    }

    /// The version of the server.
    #[must_use]
    pub fn version(&self) -> PostgresVersion {
        self.version
    }

    /// Waits until it runs no more.
    pub async fn ended(&self) {
        loop {
            // A server in another container has no process id here; only its socket shows it.
            let runs = match self.postmaster.pid() {
                Some(_) => self.postmaster.runs(),
                None => self.socket.listener().await.is_some(),
            };
            if !runs {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Starts it again after it has ended, or joins it if another process was faster. Pools made
    /// with [`Self::connect_options`] can connect again.
    ///
    /// May be dropped before it is done: [`Self::stop`] then stops what it had started.
    ///
    /// # Errors
    /// As for [`Self::start`], and when the data are gone.
    pub async fn revive(&mut self) -> Result<(), EmbeddedError> {
        if !cluster::initialised(&self.data_dir)? {
            return Err(EmbeddedError::NoDatabase { data_dir: self.data_dir.clone() });
        }
        let turn = take_turn(&self.options, &self.data_dir).await?;
        let place = Place { options: &self.options, data_dir: &self.data_dir, data: &self.data };
        let postmaster = &mut self.postmaster;
        let mut started = |new| *postmaster = new;
        let up = place.bring_up(None, &turn, &self.in_use, &mut started).await?;
        Up { postmaster: self.postmaster, joined: self.joined, version: self.version } = up;
        Ok(())
    }

    /// Leaves it, and stops it if no other process uses it: its sessions are ended and everything
    /// is written to the disk. Work that is not done after 30 s is dropped, and recovered at the
    /// next start.
    ///
    /// # Errors
    /// When it cannot be stopped, or when it is unknown whether another process uses it.
    pub async fn stop(mut self) -> Result<Stopped, EmbeddedError> {
        let turn = match take_turn(&self.options, &self.data_dir).await {
            Ok(turn) => turn,
            // A process that holds the turn for so long is starting, so it is a user.
            Err(EmbeddedError::Busy { .. }) => return Ok(Stopped::StillUsed),
            Err(error) => return Err(error),
        };
        if !self.in_use.is_last(&turn)? {
            tracing::info!(data = %self.data.display(), "leaving PostgreSQL running: others use it");
            return Ok(Stopped::StillUsed);
        }
        // Another process may have started it again and left.
        if let Some(listener) = self.socket.listener().await {
            self.postmaster = listener;
        }
        if self.postmaster.pid().is_none() {
            tracing::warn!(data = %self.data.display(), "leaving PostgreSQL running: it runs in another container");
            return Ok(Stopped::StillUsed);
        }
        let began = Instant::now();
        lifecycle::end(&self.postmaster, &self.data).await?;
        tracing::info!(data = %self.data.display(), millis = began.elapsed().as_millis(), "stopped PostgreSQL");
        Ok(Stopped::Stopped)
    }
}

/// Waits for the turn to start or stop the PostgreSQL of a data directory.
async fn take_turn(options: &Options, data_dir: &Path) -> Result<Turn, EmbeddedError> {
    Turn::take(&data_dir.join("postgres.start.lock"), options.patience.turn).await
}
