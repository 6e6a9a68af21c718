//! The Unix socket: its address, and the process that listens on it.

use std::fs;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::net::UnixStream;

use super::error::EmbeddedError;
use super::layout::PORT;
use super::process::Postmaster;
use super::untrusted_file;

/// The role of the service, and the name of its database.
pub(super) const SERVICE: &str = "muster";
/// The role that owns the cluster.
pub(super) const SUPERUSER: &str = "postgres";

/// The longest path of a socket: `sun_path` without its final zero.
const MAX_PATH_LEN: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// PostgreSQL creates a lock file and writes its id at once, so an empty file of this age is stale.
const EMPTY_LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// The socket in PostgreSQL's own directory.
#[derive(Debug)]
pub(super) struct Socket {
    directory: PathBuf,
    /// Keeps `directory` valid if it is a path through Muster's open files.
    _open: Option<File>,
}

impl Socket {
    /// The socket of `cluster`, which must exist. The directory is opened and reached through
    /// `/proc/self/fd` if its path is too long for a socket address.
    pub(super) fn for_cluster(cluster: &Path) -> Result<Self, EmbeddedError> {
        let fits =
            cluster.to_str().is_some_and(|path| path.len() + socket_name().len() < MAX_PATH_LEN);
        if fits {
            return Ok(Self { directory: cluster.to_owned(), _open: None });
        }
        if !cfg!(target_os = "linux") {
            return Err(EmbeddedError::PathTooLong { path: cluster.to_owned() });
        }
        let open = File::open(cluster).map_err(EmbeddedError::file("open", cluster))?;
        Ok(Self {
            directory: format!("/proc/self/fd/{}", open.as_raw_fd()).into(),
            _open: Some(open),
        })
    }

    /// Options for a connection. `PG*` variables of the environment have no effect: the values here
    /// replace them, and [`crate::postgres::environment`] has removed the others.
    fn options(&self, role: &str, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.directory)
            .port(PORT)
            .username(role)
            .database(database)
            .ssl_mode(PgSslMode::Disable)
            .application_name(SERVICE)
    }

    /// Options for a connection of the service.
    pub(super) fn connect_options(&self) -> PgConnectOptions {
        self.options(SERVICE, SERVICE)
    }

    /// Options without a log message per statement, for the statements of this module.
    pub(super) fn internal_options(&self, role: &str, database: &str) -> PgConnectOptions {
        self.options(role, database).disable_statement_logging()
    }

    /// The process that listens, if any. The kernel reports it: unlike `postmaster.pid` this cannot
    /// be out of date, and it works across containers.
    pub(super) async fn listener(&self) -> Option<Postmaster> {
        let stream = UnixStream::connect(self.directory.join(socket_name())).await.ok()?;
        let pid = stream.peer_cred().ok()?.pid().filter(|pid| *pid > 0);
        Some(Postmaster::from_pid(pid))
    }
}

fn socket_name() -> String {
    format!(".s.PGSQL.{PORT}")
}

/// A process that holds the lock files of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockHolder {
    /// No process, or none that runs. Stale lock files were removed.
    NoProcess,
    /// A PostgreSQL that runs, or a process that is just writing its lock file.
    Running,
}

/// Finds the PostgreSQL that holds the lock files, and removes lock files of dead processes.
/// PostgreSQL detects dead processes itself, but fails if another program of the same user has the
/// process id. This is likely in a container, where ids start from 1 again. The caller holds the
/// lifecycle lock, and no process may listen.
pub(super) fn check_locks(cluster: &Path) -> LockHolder {
    let mut holder = LockHolder::NoProcess;
    for name in ["postmaster.pid".to_owned(), format!("{}.lock", socket_name())] {
        let file = cluster.join(&name);
        let Ok(text) = untrusted_file::read(cluster, &name) else {
            continue;
        };
        let text = String::from_utf8_lossy(&text);
        let pid = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok());
        let (reason, is_running) = match pid {
            Some(pid) => {
                let process = Postmaster::from_pid(Some(pid));
                (process.mismatch_with(cluster), process.is_running())
            }
            // A process that was killed before it wrote its id leaves an empty file.
            None => (is_older_than(&file, EMPTY_LOCK_TIMEOUT).then_some("it is empty"), true),
        };
        if let Some(reason) = reason {
            tracing::warn!(file = %file.display(), pid, reason, "removing a stale lock of PostgreSQL");
            let _ = fs::remove_file(&file);
        } else if is_running {
            holder = LockHolder::Running;
        }
    }
    holder
}

fn is_older_than(file: &Path, age: Duration) -> bool {
    let modified = fs::metadata(file).and_then(|found| found.modified());
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|elapsed| elapsed > age))
}
