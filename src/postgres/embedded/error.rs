//! Errors of the embedded PostgreSQL. Each message names the cause, the paths and values, and a
//! remedy.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::download_error::DownloadError;
use super::found_versions::FoundVersions;
use super::version::MIN_MAJOR;

/// The remedy if no PostgreSQL programs are available.
const REMEDIES: &str = "install PostgreSQL 15 or newer with the operating system's package manager, or set \
     database.postgres_dir to the directory that holds `postgres` and `initdb`, or use a PostgreSQL \
     of your own by setting database.url";

/// A failure of the embedded PostgreSQL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// The configured directory lacks a program, or holds one that does not run.
    #[error(
        "database.postgres_dir is {dir}, but {dir}/{program} {problem}; set it to a directory that holds \
         working `postgres` and `initdb` programs, or remove it to search the usual places"
    )]
    ConfiguredPrograms {
        /// `database.postgres_dir`.
        dir: PathBuf,
        /// `postgres` or `initdb`.
        program: &'static str,
        /// The problem with the program.
        problem: String,
    },
    /// The machine has no suitable programs, and downloads are switched off.
    #[error("found no PostgreSQL {MIN_MAJOR} or newer on this machine{found}; {REMEDIES}")]
    NoPrograms {
        /// The programs that are too old, if any.
        found: FoundVersions,
    },
    /// The machine has no suitable programs, and the download failed.
    #[error(
        "found no PostgreSQL {MIN_MAJOR} or newer on this machine{found}, and downloading it from {from} failed; {REMEDIES}"
    )]
    Download {
        /// The programs that are too old, if any.
        found: FoundVersions,
        /// The URL of the download.
        from: String,
        /// The cause.
        source: DownloadError,
    },
    /// The data belong to a major version that is not available.
    #[error(
        "the data directory {data} was made by PostgreSQL {major}, but {}; \
         install PostgreSQL {major}, or set database.postgres_dir to its programs",
        .found.only()
    )]
    OtherMajor {
        /// `postgres` in the data directory.
        data: PathBuf,
        /// The version in its `PG_VERSION`.
        major: u32,
        /// The programs of other versions.
        found: FoundVersions,
        /// The error of the download of the right version, if a download was tried.
        source: Option<DownloadError>,
    },
    /// The data belong to a version that Muster does not support.
    #[error(
        "the data directory {data} was made by PostgreSQL {major}, but Muster needs {MIN_MAJOR} or newer; \
         upgrade it with pg_upgrade, or set another data_dir"
    )]
    DataTooOld {
        /// `postgres` in the data directory.
        data: PathBuf,
        /// The version in its `PG_VERSION`.
        major: u32,
    },
    /// `postgres` exists, but is not a data directory.
    #[error(
        "{path} {problem}, so it is not a PostgreSQL data directory; move it away, or set another data_dir"
    )]
    NotACluster {
        /// `postgres` in the data directory.
        path: PathBuf,
        /// The reason, such as a missing file.
        problem: String,
    },
    /// The data directory has no database, though the operation needs one.
    #[error(
        "there is no database in {data_dir}; run `muster serve` or `muster app create --create-database` to make \
         one, or set data_dir to the directory that has it"
    )]
    NoDatabase {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// A directory belongs to another user.
    #[error(
        "{path} belongs to uid {owner}, but Muster runs as uid {ours} and may not use it; run Muster as uid {owner}, \
         or `chown -R {ours} {path}` as root, or set another data_dir"
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
        /// The user id of Muster.
        ours: u32,
    },
    /// Muster runs as root, and the data directory belongs to an ordinary user. Root may write
    /// there, but the owner could not read root's files.
    #[error(
        "{path} belongs to uid {owner}, but Muster runs as root, whose files would lock that user out; run Muster as \
         uid {owner}, or hand the directory to root with `chown 0 {path}`, or set another data_dir"
    )]
    NotRoots {
        /// The data directory.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
    },
    /// Muster's user owns the directory, but its mode denies access.
    #[error(
        "{path} has mode {mode:o}, which keeps out its own owner, uid {owner}; run `chmod 700 {path}`"
    )]
    Closed {
        /// The directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// The user id of its owner, which is also Muster's.
        owner: u32,
    },
    /// The data belong to root, but PostgreSQL refuses to run as root.
    #[error(
        "{path} belongs to root, and PostgreSQL refuses to run as root; give it to an ordinary user, for example \
         `chown -R postgres {path}`: Muster then runs PostgreSQL as that user"
    )]
    RootOwned {
        /// `postgres` in the data directory.
        path: PathBuf,
    },
    /// Muster runs as root, and the machine has no user for PostgreSQL.
    #[error(
        "PostgreSQL refuses to run as root, and /etc/passwd has no user `postgres` to run it as; \
         create one (`useradd --system postgres`), or run Muster as an ordinary user"
    )]
    NoOrdinaryUser,
    /// The user of Muster has no name, by which PostgreSQL would admit it.
    #[error(
        "uid {uid}, which runs Muster, has no name, and PostgreSQL admits its clients by name; run Muster as a \
         user that has an entry in /etc/passwd"
    )]
    NamelessUser {
        /// The user id of Muster.
        uid: u32,
    },
    /// Another Muster is starting or stopping the same PostgreSQL.
    #[error(
        "waited {} s while another process was starting or stopping the PostgreSQL of this data directory (it holds \
         the lock {lock}); wait until it is done and try again, or find it with `fuser {lock}`",
        .waited.as_secs()
    )]
    Busy {
        /// The lock file.
        lock: PathBuf,
        /// The time that Muster waited.
        waited: Duration,
    },
    /// `initdb` failed.
    #[error("could not create a database in {data}: {} said: {output}{}", .program.display(), hint(.output))]
    Initdb {
        /// The directory for the new database.
        data: PathBuf,
        /// The path of `initdb`.
        program: PathBuf,
        /// The last lines of its output.
        output: String,
    },
    /// A program could not be started.
    #[error(
        "could not run {program} as {user}; see that this user may enter its directory and execute it"
    )]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The user of the program.
        user: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// PostgreSQL exited instead of starting.
    #[error("PostgreSQL ended while starting ({status}); the end of its log, from {log}:\n{tail}")]
    Died {
        /// The exit status.
        status: String,
        /// The log file.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// PostgreSQL runs, but accepts no connections.
    #[error(
        "PostgreSQL runs on {data} but accepted no connection within {} s; see {data}/log, wait if it recovers after \
         a crash, and try again: Muster joins the one that runs",
        .waited.as_secs()
    )]
    NotReady {
        /// `postgres` in the data directory.
        data: PathBuf,
        /// The time that Muster waited.
        waited: Duration,
        /// The error of the last attempt.
        source: Option<sqlx::Error>,
    },
    /// The role or the database could not be found or created.
    #[error("the embedded PostgreSQL in {data} runs but could not be prepared; see {data}/log")]
    Prepare {
        /// `postgres` in the data directory.
        data: PathBuf,
        /// The error of the database.
        source: sqlx::Error,
    },
    /// PostgreSQL did not exit after a signal to stop.
    #[error(
        "PostgreSQL on {data} (process {pid}) did not stop within {} s; see {data}/log, then end it \
         with `kill -QUIT {pid}`",
        .waited.as_secs_f64().ceil()
    )]
    NotStopped {
        /// `postgres` in the data directory.
        data: PathBuf,
        /// The process id of the postmaster.
        pid: i32,
        /// The time that Muster waited.
        waited: Duration,
    },
    /// The socket's path is longer than the system allows.
    #[error(
        "the path {path} is too long for a Unix socket on this system; set a data_dir with a shorter path"
    )]
    PathTooLong {
        /// The directory of the socket.
        path: PathBuf,
    },
    /// A file or directory could not be used.
    #[error("could not {action} {path}; see that it exists and that uid {} may do so", rustix::process::geteuid().as_raw())]
    File {
        /// The operation, such as "create".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl EmbeddedError {
    /// Whether the value of a configuration key is the cause.
    #[must_use]
    pub fn is_misconfiguration(&self) -> bool {
        let is_no_directory = |error: &io::Error| error.kind() == io::ErrorKind::NotADirectory;
        matches!(self, Self::ConfiguredPrograms { .. })
            || matches!(self, Self::File { source, .. } if is_no_directory(source))
    }

    /// The message in two parts: the cause, and the remedy if the error has one.
    #[must_use]
    pub fn cause_and_remedy(&self) -> (String, Option<String>) {
        let text = self.to_string();
        // These messages end with the output of a program.
        if matches!(self, Self::Died { .. } | Self::Initdb { .. }) {
            return (text, None);
        }
        match text.rsplit_once("; ") {
            Some((cause, remedy)) => (cause.to_owned(), Some(remedy.to_owned())),
            None => (text, None),
        }
    }

    /// For `map_err`: adds the operation and the file.
    pub(super) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}

/// The remedy for the one failure of `initdb` whose output names no remedy.
fn hint(output: &str) -> &'static str {
    if output.contains("effective user ID") {
        "; run Muster as a user that has an entry in /etc/passwd"
    } else {
        ""
    }
}
