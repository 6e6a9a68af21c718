//! Ends the processes that a killed PostgreSQL has left behind.
//!
//! The first process of PostgreSQL, the postmaster, starts all others. They end when they detect that it
//! is dead. A process that computes, or waits for a lock of a process that was killed too, does not
//! detect this. PostgreSQL does not start while such a process is attached to the old shared memory.
//!
//! A process of a PostgreSQL that runs must not be harmed, so each process needs its own proof:
//!
//! - It is a process of this directory: the program `postgres`, with the directory as working directory,
//!   as the owner of the directory, and attached to shared memory.
//! - It is not a postmaster: only the processes that a postmaster starts have a title.
//! - Its postmaster is dead: its parent is another program, or a PostgreSQL on another directory. A
//!   process gets another parent only when its parent ends. The parent is in the same container or in
//!   an outer one, so a process that is visible here has no postmaster that is not.
//!
//! A process without a proof is left alone: on a system without `/proc` or with the `/proc` of another
//! container, or if Muster runs as root without the right to look at the processes of other users.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpid, kill_process};

use super::process::{self, ClusterProcess, PROGRAM};

/// The time for the end of the processes after each signal.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The beginning of the title of each process that a postmaster has started.
const TITLE_PREFIX: &str = "postgres: ";
/// The name of mapped shared memory that has a key. PostgreSQL's own rule counts this memory.
const SHARED_MEMORY: &str = " /SYSV";
/// The length of a title in the log.
const MAX_TITLE_CHARS: usize = 80;

/// Ends the leftovers on `cluster`: first with the signal on which PostgreSQL ends at once, then by
/// force. The caller holds the lifecycle lock.
pub(super) async fn end(cluster: &Path) {
    for signal in [Signal::QUIT, Signal::KILL] {
        for leftover in find(cluster) {
            leftover.signal(signal);
        }
        let signaled_at = Instant::now();
        while find(cluster).next().is_some() {
            if signaled_at.elapsed() >= EXIT_TIMEOUT {
                break;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// A process whose postmaster is dead.
struct Leftover {
    pid: Pid,
    title: String,
}

impl Leftover {
    fn signal(&self, signal: Signal) {
        let (pid, process) = (self.pid.as_raw_nonzero().get(), &*self.title);
        let name = if signal == Signal::KILL { "SIGKILL" } else { "SIGQUIT" };
        tracing::warn!(
            pid,
            process,
            signal = name,
            "ending a process of a killed PostgreSQL: it keeps PostgreSQL from starting"
        );
        if let Err(error) = kill_process(self.pid, signal) {
            tracing::warn!(pid, %error, "could not signal a process of a killed PostgreSQL");
        }
    }
}

/// Finds the leftovers one by one, so that each one is signaled right after its proof.
fn find(cluster: &Path) -> impl Iterator<Item = Leftover> {
    process::find_on(cluster).filter_map(move |process| {
        let title = title(&process)?;
        let is_proven = has_own_proc()
            && process.is_owners
            && is_program(process.pid)
            && is_attached(process.pid)
            && is_orphan_of(process.stat.parent, cluster);
        is_proven.then_some(Leftover { pid: process.pid, title })
    })
}

/// Whether the ids in `/proc` are those that this process may signal.
fn has_own_proc() -> bool {
    let this = getpid().as_raw_nonzero().to_string();
    fs::read_link("/proc/self").is_ok_and(|id| id.as_os_str() == &*this)
}

/// The title of a process that a postmaster has started. PostgreSQL writes the title over the arguments
/// of the process.
fn title(process: &ClusterProcess) -> Option<String> {
    let arguments = fs::read(proc_file(process.pid, "cmdline")).ok()?;
    let title = arguments.split(|byte| *byte == 0).next()?;
    let title = String::from_utf8_lossy(title);
    let title = title.starts_with(TITLE_PREFIX).then_some(title.trim_end())?;
    Some(title.chars().take(MAX_TITLE_CHARS).collect())
}

/// Whether the process runs the program `postgres`, which an upgrade may have replaced since.
fn is_program(pid: Pid) -> bool {
    let program = fs::read_link(proc_file(pid, "exe")).unwrap_or_default();
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(" (deleted)").unwrap_or(&name) == PROGRAM
}

/// Whether the process is attached to shared memory that has a key.
fn is_attached(pid: Pid) -> bool {
    fs::read_to_string(proc_file(pid, "maps")).is_ok_and(|maps| maps.contains(SHARED_MEMORY))
}

/// Whether a process with this parent has lost its postmaster: the parent is known, and is no PostgreSQL
/// on `cluster`.
fn is_orphan_of(parent: i32, cluster: &Path) -> bool {
    let Some(parent) = Pid::from_raw(parent) else { return false };
    match process::stat(parent) {
        None => false,
        Some(stat) if stat.name != PROGRAM => true,
        Some(_) => process::is_on(parent, cluster) == Some(false),
    }
}

fn proc_file(pid: Pid, name: &str) -> String {
    format!("/proc/{}/{name}", pid.as_raw_nonzero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orphan_has_a_known_parent() {
        let cluster = tempfile::tempdir().unwrap();
        // The parent is in an outer container, or has just ended.
        for unknown in [0, i32::MAX] {
            assert!(!is_orphan_of(unknown, cluster.path()), "{unknown}");
        }
        let this = i32::try_from(std::process::id()).unwrap();
        assert_eq!(is_orphan_of(this, cluster.path()), cfg!(target_os = "linux"));
    }

    #[test]
    fn program_without_shared_memory_is_no_leftover() {
        assert_eq!(has_own_proc(), cfg!(target_os = "linux"));
        assert!(!is_program(getpid()) && !is_attached(getpid()));
        assert_eq!(find(Path::new("/")).count(), 0);
    }
}
