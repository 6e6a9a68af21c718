//! Starts, joins and stops PostgreSQL. The caller holds the lifecycle lock.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::error::EmbeddedError;
use super::installation::{Installation, SearchPaths};
use super::lock::{LifecycleLock, UsageLock};
use super::options::Options;
use super::process::{self, Postmaster};
use super::ready::{self, ServerSettings};
use super::socket::{self, Socket};
use super::version::PostgresVersion;
use super::{cluster, layout, owner};

/// The limit for a stop that rolls back transactions and writes all data to the disk.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// The limit for an immediate stop. PostgreSQL recovers at its next start.
const QUIT_TIMEOUT: Duration = Duration::from_secs(10);
/// The connections of a server outside of its pool: three for each of up to nine threads, two that
/// listen, and two for callbacks.
const OWN_CONNECTIONS: u32 = 31;
/// The number of servers that can share a data directory.
const MAX_SERVERS: u32 = 4;
/// Connections for commands and for `psql`.
const SPARE_CONNECTIONS: u32 = 20;

/// The options and the paths of the PostgreSQL to start or join.
pub(super) struct StartContext<'a> {
    pub(super) options: &'a Options,
    /// The full path of the data directory.
    pub(super) data_dir: &'a Path,
    /// `postgres` in the data directory.
    pub(super) data: &'a Path,
}

/// A PostgreSQL that accepts connections.
pub(super) struct StartedServer {
    pub(super) postmaster: Postmaster,
    /// Whether PostgreSQL ran already.
    pub(super) is_shared: bool,
    pub(super) version: PostgresVersion,
}

impl StartContext<'_> {
    /// Joins the running PostgreSQL, or starts it. Missing data are created first. `installation`
    /// holds programs that were found earlier, if any. `started` is called with the process as soon
    /// as it exists, because this future may be dropped while it waits for the first answer.
    pub(super) async fn start_or_join(
        &self,
        installation: Option<Installation>,
        lock: &LifecycleLock,
        usage: &UsageLock,
        started: &mut (dyn FnMut(Postmaster) + Send),
    ) -> Result<StartedServer, EmbeddedError> {
        let &Self { options, data_dir, data } = self;
        // Another process may have created the data before this one got the lifecycle lock.
        let run_as = owner::run_as(data)?;
        if cluster::is_initialized(data_dir)?
            && let Some((postmaster, ready)) =
                ready::join(data, &Socket::for_cluster(data)?, options.timeouts.ready).await?
        {
            if !self.must_restart(&postmaster, &ready, lock, usage)? {
                let version = ready.version;
                tracing::info!(data = %data.display(), %version, "joined the PostgreSQL that runs");
                return Ok(StartedServer { postmaster, is_shared: true, version });
            }
            shut_down(&postmaster, data).await?;
        }
        let installation = match installation {
            Some(installation)
                if layout::major(data)?.is_none_or(|major| major == installation.version.major) =>
            {
                installation
            }
            _ => self::find_installation(options, data).await?,
        };
        if !cluster::is_initialized(data_dir)? {
            cluster::create(data_dir, &installation, &run_as).await?;
        }
        let socket = Socket::for_cluster(data)?;
        socket::remove_stale_locks(data);
        let started_at = Instant::now();
        let log = data_dir.join("postgres-start.log");
        let connections = connections(options);
        let (child, postmaster, ready) = loop {
            let mut child = process::start(data, &installation, &run_as, connections, &log)?;
            let postmaster = Postmaster::from_pid(child.id().and_then(|id| i32::try_from(id).ok()));
            started(postmaster.clone());
            match ready::wait(data, &socket, &mut child, &log, options.timeouts.ready).await {
                Ok(ready) => break (child, postmaster, ready),
                // The processes of a killed server need a moment to exit.
                Err(EmbeddedError::Died { tail, .. })
                    if tail.contains("pre-existing shared memory")
                        && started_at.elapsed() < QUIT_TIMEOUT =>
                {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(error),
            }
        };
        process::reap(child);
        let version = ready.version;
        tracing::info!(
            data = %data.display(), %version, programs = %installation.dir.display(), user = %run_as,
            millis = started_at.elapsed().as_millis(), "started PostgreSQL"
        );
        Ok(StartedServer { postmaster, is_shared: false, version })
    }

    /// Whether the running PostgreSQL accepts too few connections for this process and has no other
    /// user. PostgreSQL keeps the settings of the Muster process that started it.
    fn must_restart(
        &self,
        postmaster: &Postmaster,
        ready: &ServerSettings,
        lock: &LifecycleLock,
        usage: &UsageLock,
    ) -> Result<bool, EmbeddedError> {
        let required = connections(self.options);
        if ready.max_connections >= required {
            return Ok(false);
        }
        let is_alone = usage.try_exclusive(lock);
        usage.restore_shared(lock)?;
        if is_alone? && postmaster.pid().is_some() {
            tracing::info!(
                runs_with = ready.max_connections,
                required,
                "restarting the PostgreSQL that runs: it takes too few connections"
            );
            return Ok(true);
        }
        tracing::warn!(
            runs_with = ready.max_connections,
            required,
            max_connections = self.options.max_connections,
            "the PostgreSQL that runs takes fewer connections than database.max_connections and a reserve \
             need, and is not restarted as others use it or it is another container's: requests may be \
             refused; stop every Muster of this data_dir, then start the one with this setting first"
        );
        Ok(false)
    }
}

/// Finds the programs for `data`, or downloads them if a download is allowed.
pub(super) async fn find_installation(
    options: &Options,
    data: &Path,
) -> Result<Installation, EmbeddedError> {
    SearchPaths::for_this_machine(options).find_or_download(data, layout::major(data)?).await
}

/// The connection limit of a PostgreSQL that this process starts.
fn connections(options: &Options) -> u32 {
    let server = options.max_connections.saturating_add(OWN_CONNECTIONS);
    server.saturating_mul(MAX_SERVERS).saturating_add(SPARE_CONNECTIONS)
}

/// Stops PostgreSQL: sessions are ended and all data are written to the disk. PostgreSQL is stopped
/// at once if this takes too long. A server whose process is not visible from here is left running.
pub(super) async fn shut_down(postmaster: &Postmaster, data: &Path) -> Result<(), EmbeddedError> {
    let Some(pid) = postmaster.pid() else { return Ok(()) };
    postmaster.signal(Signal::INT);
    if exits_within(postmaster, STOP_TIMEOUT).await {
        return Ok(());
    }
    tracing::warn!(pid, "PostgreSQL takes too long to stop: it will recover at the next start");
    postmaster.signal(Signal::QUIT);
    if exits_within(postmaster, QUIT_TIMEOUT).await {
        return Ok(());
    }
    let waited = STOP_TIMEOUT + QUIT_TIMEOUT;
    Err(EmbeddedError::NotStopped { data: data.to_owned(), pid, waited })
}

async fn exits_within(postmaster: &Postmaster, timeout: Duration) -> bool {
    let started_at = Instant::now();
    while postmaster.is_running() {
        if started_at.elapsed() >= timeout {
            return false;
        }
        tokio::time::sleep(ready::POLL_INTERVAL).await;
    }
    true
}
