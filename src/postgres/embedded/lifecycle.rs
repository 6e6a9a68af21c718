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
use super::socket::{self, LockHolder, Socket};
use super::version::PostgresVersion;
use super::{access, cluster, layout, leftovers, owner, roles};

/// The limit for a stop that rolls back transactions and writes all data to the disk, if the caller has
/// no other.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// The limit for an immediate stop, which writes nothing: PostgreSQL recovers at its next start.
const QUIT_TIMEOUT: Duration = Duration::from_secs(2);
/// The limit for another PostgreSQL on the same data: one that was killed must exit, and one that
/// is starting must listen.
const CONFLICT_TIMEOUT: Duration = Duration::from_secs(60);
/// The limit for processes that seem to use the data: those of a killed PostgreSQL are ended, and a start
/// is tried.
const BUSY_TIMEOUT: Duration = Duration::from_secs(3);
const CONFLICT_INTERVAL: Duration = Duration::from_millis(50);
/// The connections of a server outside of its pool: three for each of up to nine sets of queues; one each
/// for notifications, the cache, streams and the numbers of changes; two for callbacks; and for a short
/// time one that tests whether writes end, and one that cancels statements.
const OWN_CONNECTIONS: u32 = 27 + 4 + 2 + 2;
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
        mut installation: Option<Installation>,
        lock: &LifecycleLock,
        usage: &UsageLock,
        started: &mut (dyn FnMut(Postmaster) + Send),
    ) -> Result<StartedServer, EmbeddedError> {
        let started_at = Instant::now();
        let mut waiting_since = started_at;
        loop {
            // Another process may have created the data before this one got the lifecycle lock.
            if cluster::is_initialized(self.data_dir)?
                && let Some(joined) = self.join(lock, usage).await?
            {
                return Ok(joined);
            }
            // A process that was killed may have started a PostgreSQL that does not listen yet. The
            // processes of a killed PostgreSQL need a moment to exit.
            let is_locked = socket::check_locks(self.data) == LockHolder::Running;
            let is_busy = is_locked || process::find_on(self.data).next().is_some();
            if !is_busy || waiting_since.elapsed() >= BUSY_TIMEOUT {
                if is_busy {
                    leftovers::end(self.data).await;
                }
                let found = self.installation(installation.take()).await?;
                match self.start(&found, started).await {
                    Err(EmbeddedError::Died { tail, .. })
                        if started_at.elapsed() < CONFLICT_TIMEOUT
                            && (is_busy || is_conflict(&tail)) =>
                    {
                        tracing::info!("another PostgreSQL still uses the data: waiting for it");
                    }
                    result => return result,
                }
                (installation, waiting_since) = (Some(found), Instant::now());
            }
            tokio::time::sleep(CONFLICT_INTERVAL).await;
        }
    }

    /// Joins the running PostgreSQL. `None` if no server runs, or if it was shut down because it
    /// must be restarted.
    async fn join(
        &self,
        lock: &LifecycleLock,
        usage: &UsageLock,
    ) -> Result<Option<StartedServer>, EmbeddedError> {
        let &Self { options, data, .. } = self;
        let socket = Socket::for_cluster(data)?;
        let Some((postmaster, ready)) = ready::join(data, &socket, options.timeouts.ready).await?
        else {
            return Ok(None);
        };
        if self.must_restart(&postmaster, &ready, lock, usage)? {
            shut_down(&postmaster, data, STOP_TIMEOUT).await?;
            return Ok(None);
        }
        if ready.has_old_roles {
            access::write(data, &owner::run_as(data)?)?;
        }
        self.update_roles(&socket, &ready).await?;
        let version = ready.version;
        tracing::info!(data = %data.display(), %version, "joined the PostgreSQL that runs");
        Ok(Some(StartedServer { postmaster, is_shared: true, version }))
    }

    /// The programs for the data: those that were found earlier, if they still fit.
    async fn installation(
        &self,
        found: Option<Installation>,
    ) -> Result<Installation, EmbeddedError> {
        let major = layout::major(self.data)?;
        match found {
            Some(found) if major.is_none_or(|major| major == found.version.major) => Ok(found),
            _ => self::find_installation(self.options, self.data).await,
        }
    }

    /// Creates missing data, and starts PostgreSQL.
    async fn start(
        &self,
        installation: &Installation,
        started: &mut (dyn FnMut(Postmaster) + Send),
    ) -> Result<StartedServer, EmbeddedError> {
        let &Self { options, data_dir, data } = self;
        let run_as = owner::run_as(data)?;
        if !cluster::is_initialized(data_dir)? {
            cluster::create(data_dir, installation, &run_as).await?;
        }
        owner::take_from_nobody(data, &run_as)?;
        access::write(data, &run_as)?;
        let socket = Socket::for_cluster(data)?;
        let started_at = Instant::now();
        let log = data_dir.join("postgres-start.log");
        let mut child = process::start(data, installation, &run_as, connections(options), &log)?;
        let postmaster = Postmaster::from_pid(child.id().and_then(|id| i32::try_from(id).ok()));
        started(postmaster.clone());
        let ready = ready::wait(data, &socket, &mut child, &log, options.timeouts.ready).await?;
        self.update_roles(&socket, &ready).await?;
        let version = ready.version;
        // Another PostgreSQL was faster, and the one that was started here ends.
        if let Some(faster) = socket.listener().await
            && faster.pid() != postmaster.pid()
        {
            tracing::info!(data = %data.display(), %version, "joined a PostgreSQL that was starting");
            return Ok(StartedServer { postmaster: faster, is_shared: true, version });
        }
        process::reap(child);
        tracing::info!(
            data = %data.display(), %version, programs = %installation.dir.display(), user = %run_as,
            millis = started_at.elapsed().as_millis(), "started PostgreSQL"
        );
        Ok(StartedServer { postmaster, is_shared: false, version })
    }

    /// Gives the data of an earlier version the roles of this one.
    async fn update_roles(
        &self,
        socket: &Socket,
        ready: &ServerSettings,
    ) -> Result<(), EmbeddedError> {
        if !ready.has_old_roles {
            return Ok(());
        }
        let failed = |source| EmbeddedError::Prepare { data: self.data.to_owned(), source };
        roles::ensure(socket).await.map_err(failed)
    }

    /// Whether the running PostgreSQL has no other user, and accepts too few connections for this
    /// process or runs as `nobody`. PostgreSQL keeps the settings of the Muster process that started
    /// it.
    fn must_restart(
        &self,
        postmaster: &Postmaster,
        ready: &ServerSettings,
        lock: &LifecycleLock,
        usage: &UsageLock,
    ) -> Result<bool, EmbeddedError> {
        let required = connections(self.options);
        let is_nobodys = owner::belongs_to_nobody(self.data)?;
        if ready.max_connections >= required && !is_nobodys {
            return Ok(false);
        }
        let is_alone = usage.try_exclusive(lock);
        usage.restore_shared(lock)?;
        if is_alone? && postmaster.pid().is_some() {
            tracing::info!(
                runs_with = ready.max_connections,
                required,
                as_nobody = is_nobodys,
                "restarting the PostgreSQL that runs: it takes too few connections, or runs as `nobody`"
            );
            return Ok(true);
        }
        if is_nobodys {
            tracing::warn!(
                "the PostgreSQL that runs does so as the user `nobody`, as unrelated programs do: stop \
                 every Muster of this data_dir, then start one"
            );
            return Ok(false);
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

/// Whether PostgreSQL refused to start because other processes use the data, by the end of its log.
fn is_conflict(log: &str) -> bool {
    log.contains("pre-existing shared memory") || log.contains("lock file \"")
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
/// at once if this takes longer than `timeout`. A server whose process is not visible from here is left
/// running.
pub(super) async fn shut_down(
    postmaster: &Postmaster,
    data: &Path,
    timeout: Duration,
) -> Result<(), EmbeddedError> {
    let Some(pid) = postmaster.pid() else { return Ok(()) };
    postmaster.signal(Signal::INT);
    if exits_within(postmaster, timeout).await {
        return Ok(());
    }
    tracing::warn!(pid, "PostgreSQL takes too long to stop: it will recover at the next start");
    postmaster.signal(Signal::QUIT);
    if exits_within(postmaster, QUIT_TIMEOUT).await {
        return Ok(());
    }
    let waited = timeout + QUIT_TIMEOUT;
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
