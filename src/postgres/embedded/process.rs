//! PostgreSQL's processes: starts them, watches them (children or not), and sends them signals.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::FdFlags;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::process::Child;

use super::error::EmbeddedError;
use super::installation::Installation;
use super::layout::PORT;
use super::memory;
use super::owner::RunAs;
use crate::postgres::environment;

/// The program of all processes of PostgreSQL.
pub(super) const PROGRAM: &str = "postgres";

/// A directory to pass to a program.
///
/// The directory is passed as an open file, `/proc/self/fd/N`, if Muster runs as root. The user of
/// the program owns the directory, but may have no access to its parents, such as `/root`.
#[derive(Debug)]
pub(super) struct ClusterDirectory {
    path: PathBuf,
    open: Option<File>,
}

impl ClusterDirectory {
    pub(super) fn open(path: &Path, run_as: &RunAs) -> Result<Self, EmbeddedError> {
        let open = if cfg!(target_os = "linux") && *run_as != RunAs::CurrentUser {
            Some(File::open(path).map_err(EmbeddedError::file("open", path))?)
        } else {
            None
        };
        Ok(Self { path: path.to_owned(), open })
    }

    /// The argument of the option `-D`.
    pub(super) fn argument(&self) -> OsString {
        match &self.open {
            Some(file) => format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
            None => self.path.clone().into(),
        }
    }

    /// Starts a program that inherits the open directory. A program that another thread starts at
    /// the same moment inherits it too. This does no harm, because the directory is not a lock.
    pub(super) fn spawn(&self, command: &mut tokio::process::Command) -> io::Result<Child> {
        let Some(file) = &self.open else {
            return command.spawn();
        };
        rustix::io::fcntl_setfd(file, FdFlags::empty())?;
        let child = command.spawn();
        rustix::io::fcntl_setfd(file, FdFlags::CLOEXEC)?;
        child
    }
}

/// A command with `/` as working directory, and with the environment of PostgreSQL's programs.
pub(super) fn command(program: &Path, run_as: &RunAs) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").stdin(Stdio::null());
    environment::set_for_program(&mut command);
    run_as.apply(&mut command);
    command
}

/// Starts PostgreSQL on `cluster`, without waiting until it is ready. The server outlives this
/// process.
pub(super) fn start(
    cluster: &Path,
    installation: &Installation,
    run_as: &RunAs,
    max_connections: u32,
    log: &Path,
) -> Result<Child, EmbeddedError> {
    let log_file = File::create(log).map_err(EmbeddedError::file("write", log))?;
    let log_file_clone = log_file.try_clone().map_err(EmbeddedError::file("write", log))?;
    let directory = ClusterDirectory::open(cluster, run_as)?;
    let program = installation.dir.join(PROGRAM);
    let mut command = command(&program, run_as);
    command
        .arg("-D")
        .arg(directory.argument())
        .args(["-p", &PORT.to_string()])
        .stdout(log_file)
        .stderr(log_file_clone);
    for setting in [
        "listen_addresses=",
        // The path is relative to the data directory, so it is never too long.
        "unix_socket_directories=.",
        "unix_socket_permissions=0700",
        &format!("max_connections={max_connections}"),
        &format!("shared_buffers={}MB", memory::shared_buffers()),
        "fsync=on",
        // One file per day of the week, emptied after a week, so the size is bounded.
        "logging_collector=on",
        "log_directory=log",
        "log_filename=postgres-%a.log",
        "log_rotation_age=1d",
        "log_rotation_size=0",
        "log_truncate_on_rotation=on",
    ] {
        command.args(["-c", setting]);
    }
    // Ctrl-C on a terminal signals the whole foreground group. PostgreSQL must outlive Muster,
    // which still has data to write.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    directory.spawn(&mut command.into()).map_err(|source| EmbeddedError::Spawn {
        program,
        user: run_as.to_string(),
        source,
    })
}

/// Reaps a PostgreSQL that this process started, and logs an unexpected exit.
pub(super) fn reap(mut child: Child) {
    tokio::spawn(async move {
        match child.wait().await {
            Ok(status) if status.success() => {}
            Ok(status) => tracing::error!(%status, "PostgreSQL ended unexpectedly"),
            Err(error) => tracing::warn!(%error, "could not watch PostgreSQL"),
        }
    });
}

/// PostgreSQL's first process, perhaps started by another Muster process.
#[derive(Clone, Debug)]
pub(super) struct Postmaster {
    pid: Option<Pid>,
    /// The start time in kernel ticks. A later process with the same id has another one.
    started: Option<u64>,
}

impl Postmaster {
    /// The running process with this id. No id means that the process is in another container.
    pub(super) fn from_pid(pid: Option<i32>) -> Self {
        let pid = pid.and_then(|pid| Pid::from_raw(pid.saturating_abs()));
        Self { pid, started: pid.and_then(stat).map(|stat| stat.started) }
    }

    pub(super) fn pid(&self) -> Option<i32> {
        self.pid.map(|pid| pid.as_raw_nonzero().get())
    }

    /// Whether the process runs. A zombie does not run, even if its parent has not reaped it yet.
    pub(super) fn is_running(&self) -> bool {
        let Some(pid) = self.pid else { return false };
        match (self.started, stat(pid)) {
            (Some(started), Some(stat)) => stat.started == started && !stat.is_dead(),
            (Some(_), None) => false,
            // The system has no /proc, or the process ended before this check.
            (None, _) => test_kill_process(pid).is_ok(),
        }
    }

    /// Sends a signal, unless the process has ended.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid.filter(|_| self.is_running())
            && let Err(error) = kill_process(pid, signal)
        {
            tracing::warn!(pid = pid.as_raw_nonzero().get(), %error, "could not signal PostgreSQL");
        }
    }

    /// The proof that this running process is not the PostgreSQL of `cluster`. Without a proof, it
    /// may be.
    pub(super) fn mismatch_with(&self, cluster: &Path) -> Option<&'static str> {
        const OTHER_PROGRAM: &str = "its process id is another program's now";
        let stat = self.pid.and_then(stat)?;
        // A zombie serves no client, but PostgreSQL considers it alive because its id still exists.
        if stat.is_dead() {
            return Some("its process is over");
        }
        if stat.name != PROGRAM {
            return Some(OTHER_PROGRAM);
        }
        let cluster_dir = fs::metadata(cluster).ok()?;
        // The working directory of another user's process cannot be read.
        if fs::metadata(format!("/proc/{}", self.pid()?)).ok()?.uid() != cluster_dir.uid() {
            return Some(OTHER_PROGRAM);
        }
        // All processes of PostgreSQL have its directory as working directory.
        (!is_on(self.pid?, cluster)?).then_some(OTHER_PROGRAM)
    }
}

/// A process of PostgreSQL that has a cluster as working directory.
pub(super) struct ClusterProcess {
    pub(super) pid: Pid,
    pub(super) stat: Stat,
    /// Whether it runs as the owner of the cluster.
    pub(super) is_owners: bool,
}

/// The processes of PostgreSQL that run on `cluster`: all of them have it as working directory. A
/// system without `/proc` shows no process.
pub(super) fn find_on(cluster: &Path) -> impl Iterator<Item = ClusterProcess> {
    let owner = fs::metadata(cluster).ok().map(|found| found.uid());
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(move |process| {
        let pid = Pid::from_raw(process.file_name().to_str()?.parse().ok()?)?;
        let stat = stat(pid).filter(|stat| stat.name == PROGRAM && !stat.is_dead())?;
        is_on(pid, cluster).filter(|is_on| *is_on)?;
        let is_owners = owner == Some(process.metadata().ok()?.uid());
        Some(ClusterProcess { pid, stat, is_owners })
    })
}

/// Whether a process has `cluster` as working directory. `None` if that is not known.
pub(super) fn is_on(pid: Pid, cluster: &Path) -> Option<bool> {
    let found = fs::metadata(format!("/proc/{}/cwd", pid.as_raw_nonzero())).ok()?;
    let cluster = fs::metadata(cluster).ok()?;
    Some((found.dev(), found.ino()) == (cluster.dev(), cluster.ino()))
}

/// The state of a process.
pub(super) struct Stat {
    pub(super) name: String,
    state: char,
    /// The id of its parent, or 0 if the parent is in an outer container.
    pub(super) parent: i32,
    started: u64,
}

impl Stat {
    /// Whether the process has ended, even if its parent has not reaped it.
    fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// Reads `/proc/<pid>/stat`.
pub(super) fn stat(pid: Pid) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?)
}

/// The format is `pid (name) state parent …`. The name may hold any characters. Field 22 is the start
/// time.
fn parse_stat(text: &str) -> Option<Stat> {
    let (head, rest) = text.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    Some(Stat { name: name.to_owned(), state, parent, started: fields.nth(17)?.parse().ok()? })
}

/// The last 20 lines of a program's output.
pub(super) fn last_lines(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<_> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_is_identified_by_start_time() {
        let text = "7 (a) (b) S 1 7 7 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 4711 1000 1 18446744073709551615";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.name.as_str(), stat.state), ("a) (b", 'S'));
        assert_eq!((stat.parent, stat.started), (1, 4711));
        assert!(parse_stat("7 (a").is_none());
    }

    #[test]
    fn zombie_is_not_running() {
        let mut child = Command::new("true").spawn().unwrap();
        let process = Postmaster::from_pid(i32::try_from(child.id()).ok());
        assert!(process.pid().is_some());
        // The process has ended, but its parent, this test, has not reaped it.
        while process.is_running() {
            std::thread::yield_now();
        }
        if cfg!(target_os = "linux") {
            assert_eq!(process.mismatch_with(Path::new("/")), Some("its process is over"));
        }
        child.wait().unwrap();
        assert!(!process.is_running());
        assert_eq!(process.mismatch_with(Path::new("/")), None, "that is no proof");
    }

    #[test]
    fn own_process_is_not_postgresql() {
        let ours = Postmaster::from_pid(i32::try_from(std::process::id()).ok());
        assert!(ours.is_running());
        if cfg!(target_os = "linux") {
            let reason = ours.mismatch_with(Path::new("/")).unwrap();
            assert!(reason.contains("another program's"), "{reason}");
        }
    }

    #[test]
    fn last_lines_are_bounded() {
        let output: String = (0..100).map(|line| format!("{line}\n")).collect();
        assert!(last_lines(output.as_bytes()).starts_with("80\n"));
        assert_eq!(last_lines(b""), "");
    }
}
