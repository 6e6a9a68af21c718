//! A PostgreSQL of our own: the real server as a child process, its files in the data directory.
//!
//! It belongs to the data directory rather than to one process. Several Muster processes may use it
//! at once, such as a server and a command: the first starts it, the others join, the last one to
//! leave stops it. Nothing but files and the kernel coordinates them:
//!
//! - `postgres.start.lock`, the *turn*: exclusive, held while somebody starts, joins, leaves or stops.
//! - `postgres.lock`, the *use*: shared, held by everybody from joining to leaving. Tried exclusively
//!   in order to learn whether one is the last; only ever by who has the turn.
//!
//! Why that is safe:
//!
//! - Somebody leaves while somebody starts: one of them has the turn. If the leaver is first, the
//!   starter waits until PostgreSQL is down and starts it afresh. If the starter is first, it has
//!   signed on before the leaver asks, so the leaver leaves it running.
//! - Two leave together: the first sees the second's use and goes, the second finds itself the last.
//! - A user is killed: the kernel drops its locks. PostgreSQL stays, also as an orphan of the last
//!   user, until the next one joins and leaves.
//! - PostgreSQL dies under its users: whoever starts next gets the turn, finds nobody listening and
//!   starts it again, though others are still signed on. Their pools reconnect. One lock for both
//!   questions could not allow this: it could not be had exclusively. A server does not wait for
//!   another to come: it takes the turn itself, and starts PostgreSQL or finds it started.
//! - Somebody is killed within its turn: the next finds a listener that is starting or shutting down,
//!   waits, and joins it or starts afresh; or a half-made directory, which is removed.
//!
//! That PostgreSQL runs is seen from its socket, not from `postmaster.pid`: a file can be out of date,
//! a listening process cannot.

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

/// Where PostgreSQL's programs may be on this machine: the configured directory alone, if there is one.
pub(super) fn program_dirs(options: &Options) -> Vec<PathBuf> {
    Places::of_this_machine(options).dirs()
}

/// A program of PostgreSQL's that runs as we do, and knows nothing of our environment.
pub(super) fn bare_command(program: &Path) -> Command {
    process::command(program, &RunAs::Ourselves)
}

/// The end of what a program said.
pub(super) fn tail(said: &[u8]) -> String {
    process::tail(said)
}

/// What [`EmbeddedPostgres::stop`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Nobody else used it; it is down.
    Stopped,
    /// Somebody else uses it; it still runs.
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
        // Looking for programs, and even more downloading them, needs no turn. What is refused here
        // leaves no directory behind.
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

    /// Whether it ran already.
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
            // One in another container has no process id here; it is known by its socket alone.
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

    /// Starts it again after it has ended, or joins it if another process was faster. Whoever is
    /// connected by [`Self::connect_options`] can connect again in the same way.
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

    /// Leaves it, and stops it if nobody else uses it: its sessions are ended and everything is
    /// written out; what is not done after 30 s is dropped, and recovered at the next start.
    ///
    /// # Errors
    /// When it cannot be stopped, or it cannot be known whether somebody uses it.
    pub async fn stop(mut self) -> Result<Stopped, EmbeddedError> {
        let turn = match take_turn(&self.options, &self.data_dir).await {
            Ok(turn) => turn,
            // Whoever has the turn for so long is starting, hence a user.
            Err(EmbeddedError::Busy { .. }) => return Ok(Stopped::StillUsed),
            Err(error) => return Err(error),
        };
        if !self.in_use.is_last(&turn)? {
            tracing::info!(data = %self.data.display(), "leaving PostgreSQL running: others use it");
            return Ok(Stopped::StillUsed);
        }
        // It may have been started again since, by somebody who has left.
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
