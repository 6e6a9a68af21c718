//! Processes that end when this one does, however that ends.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to end when told to.
const PATIENCE: Duration = Duration::from_secs(30);

/// A command that is told to end when this process is gone, and knows nothing of other databases.
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

/// A process that runs until this is dropped.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Starts a command. What it says on standard error goes to `name`.log in `work`; its id is
    /// noted in `pids` there, for the script that cleans up after all.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut command: Command, work: &Path, name: &str) -> anyhow::Result<Self> {
        let append = |file: &str| {
            std::fs::OpenOptions::new().create(true).append(true).open(work.join(file))
        };
        command.stdout(Stdio::null()).stderr(append(&format!("{name}.log"))?);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        writeln!(append("pids")?, "{}", child.id())?;
        Ok(Self(child))
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether it has ended by itself.
    pub fn ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(id) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) else { return };
        // Not if it has been waited for: its id may be another's by now.
        if self.ended() {
            return;
        }
        let _ = kill_process(id, Signal::TERM);
        let told = Instant::now();
        while !self.ended() && told.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
        if !self.ended() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}
