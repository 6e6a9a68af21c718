//! A group of processes whose memory the kernel limits, as that of a container.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::process;

/// The roots of the two versions of control groups, with the names of their files.
const VERSIONS: [Version; 2] = [
    Version {
        root: "/sys/fs/cgroup/memory",
        limit: "memory.limit_in_bytes",
        peak: "memory.max_usage_in_bytes",
        events: "memory.oom_control",
    },
    Version {
        root: "/sys/fs/cgroup",
        limit: "memory.max",
        peak: "memory.peak",
        events: "memory.events",
    },
];
/// The limit and the peak of the buffers of TCP. Version 1 counts them apart, and only if they have
/// a limit; version 2 counts them among the rest.
const TCP_LIMIT: &str = "memory.kmem.tcp.limit_in_bytes";
const TCP_PEAK: &str = "memory.kmem.tcp.max_usage_in_bytes";

struct Version {
    root: &'static str,
    limit: &'static str,
    peak: &'static str,
    events: &'static str,
}

/// A group of processes with a limit of memory. The group is removed when it is dropped; its
/// processes must have ended.
pub struct MemoryGroup {
    directory: PathBuf,
    version: &'static Version,
}

impl MemoryGroup {
    /// Makes a group whose processes together may take `bytes`.
    ///
    /// # Errors
    /// The reason why this machine cannot make one.
    pub fn create(bytes: u64) -> anyhow::Result<Self> {
        let is_usable = |version: &&Version| Path::new(version.root).join("cgroup.procs").exists();
        let version = VERSIONS.iter().find(is_usable).context("no control groups")?;
        let directory = Path::new(version.root).join(format!("muster-load-{}", std::process::id()));
        fs::create_dir(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let group = Self { directory, version };
        group.write(version.limit, bytes)?;
        // Not every kernel counts them.
        let _ = group.write(TCP_LIMIT, bytes);
        Ok(group)
    }

    /// A command for a program that joins the group before it starts.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = process::command("sh");
        let join = "echo $$ >\"$0\" && exec \"$@\"";
        command.args(["-c", join]).arg(self.directory.join("cgroup.procs")).arg(program);
        command
    }

    /// The most memory that the group has taken at once, in bytes: user and kernel memory, and files
    /// that were read. With version 1, the most of the buffers of TCP is added.
    pub fn peak(&self) -> Option<u64> {
        Some(self.number(self.version.peak)? + self.number(TCP_PEAK).unwrap_or_default())
    }

    /// The number of processes that the kernel has killed because of the limit.
    pub fn killed(&self) -> Option<u64> {
        let events = fs::read_to_string(self.directory.join(self.version.events)).ok()?;
        events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
    }

    fn number(&self, file: &str) -> Option<u64> {
        fs::read_to_string(self.directory.join(file)).ok()?.trim().parse().ok()
    }

    fn write(&self, file: &str, bytes: u64) -> anyhow::Result<()> {
        let file = self.directory.join(file);
        fs::write(&file, bytes.to_string())
            .with_context(|| format!("cannot write {}", file.display()))
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.directory);
    }
}
