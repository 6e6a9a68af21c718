//! Processes that end when this process ends, even if it is killed.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

/// The time that a process gets to end after a signal.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// A command that gets a signal when this process ends, and inherits no database settings.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(program);
    for (name, _) in std::env::vars_os() {
        let upper = name.to_string_lossy().to_uppercase();
        if upper.starts_with("MUSTER") || upper.starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// A process that runs until the value is dropped.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Starts a command. Its standard error goes to `name`.log in `work`. Its id is added to `pids`
    /// there, for the script that cleans up.
    ///
    /// # Errors
    /// If the command cannot be started.
    pub fn start(mut command: Command, work: &Path, name: &str) -> anyhow::Result<Self> {
        let append = |file: &str| {
            std::fs::OpenOptions::new().create(true).append(true).open(work.join(file))
        };
        command.stdout(Stdio::null()).stderr(append(&format!("{name}.log"))?);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        writeln!(append("pids")?, "{}", child.id())?;
        Ok(Self(child))
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether the process has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(id) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) else { return };
        // An ended process gets no signal: its id may belong to another process.
        if self.has_ended() {
            return;
        }
        let _ = kill_process(id, Signal::TERM);
        let signalled = Instant::now();
        while !self.has_ended() && signalled.elapsed() < STOP_TIMEOUT {
            std::thread::sleep(Duration::from_millis(20));
        }
        if !self.has_ended() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}
