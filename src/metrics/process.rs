//! Figures of the operating system about this process and its disk.
//!
//! They are read from `/proc`, which only Linux has: elsewhere these metrics are missing.

use std::fmt;
use std::path::Path;

use super::page::{MetricsWriter, WriteMetrics};

/// A file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The bytes that this user may still write.
    pub free: u64,
    /// The size in bytes.
    pub size: u64,
}

impl Disk {
    /// The file system of `path`, if it exists.
    #[must_use]
    pub fn at(path: &Path) -> Option<Self> {
        let disk = rustix::fs::statvfs(path).ok()?;
        Some(Self {
            free: disk.f_bavail.saturating_mul(disk.f_frsize),
            size: disk.f_blocks.saturating_mul(disk.f_frsize),
        })
    }
}

/// This process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Process {
    pub(super) resident_bytes: u64,
    pub(super) cpu_seconds: f64,
    pub(super) threads: u64,
    pub(super) open_fds: u64,
    pub(super) max_fds: Option<u64>,
    /// Seconds since 1970.
    pub(super) started_at_seconds: f64,
}

impl WriteMetrics for Process {
    fn write(&self, writer: &mut MetricsWriter<'_>) -> fmt::Result {
        writer.gauge("process_resident_memory_bytes", "Memory in use.", self.resident_bytes)?;
        writer.counter("process_cpu_seconds", "Processor time.", self.cpu_seconds)?;
        writer.gauge("process_threads", "Threads.", self.threads)?;
        writer.gauge("process_open_fds", "Open file descriptors.", self.open_fds)?;
        writer.gauge_if_known(
            "process_max_fds",
            "Maximum number of open file descriptors.",
            self.max_fds,
        )?;
        let help = "Start of the process, as a Unix time.";
        writer.gauge("process_start_time_seconds", help, self.started_at_seconds)
    }
}

impl Process {
    /// The figures of this process, if the system provides them.
    pub(super) fn current() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let system = std::fs::read_to_string("/proc/stat").ok()?;
        let open_fds = std::fs::read_dir("/proc/self/fd").ok()?.count();
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let (ticks, page) = (rustix::param::clock_ticks_per_second(), rustix::param::page_size());
        let mut process = Self::read(&stat, &system, ticks, page as u64)?;
        // Reading the directory opens a descriptor itself.
        process.open_fds = (open_fds as u64).saturating_sub(1);
        process.max_fds = limit.current;
        Some(process)
    }

    /// Parses `/proc/self/stat`, and the boot time in `/proc/stat`; see proc(5).
    fn read(stat: &str, system: &str, ticks: u64, page: u64) -> Option<Self> {
        // The name of the program is in parentheses and may contain any character.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        // The first field here is field 3 of proc(5).
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let boot_time = system.lines().find_map(|line| line.strip_prefix("btime "))?;
        let seconds = |ticked: u64| ticked as f64 / ticks as f64;
        Some(Self {
            resident_bytes: field(24)? * page,
            cpu_seconds: seconds(field(14)? + field(15)?),
            threads: field(20)?,
            open_fds: 0,
            max_fds: None,
            started_at_seconds: boot_time.trim().parse::<f64>().ok()? + seconds(field(22)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_line_is_parsed_with_any_program_name() {
        let stat = "12 (a) b) S 1 12 12 0 -1 4194560 1 0 0 0 250 150 0 0 20 0 7 0 5000 1000000 300 \
                    18446744073709551615 1 1";
        let read = Process::read(stat, "cpu 1 2\nbtime 1700000000\nx 1\n", 100, 4_096).unwrap();
        assert_eq!(
            read,
            Process {
                resident_bytes: 300 * 4_096,
                cpu_seconds: 4.0,
                threads: 7,
                open_fds: 0,
                max_fds: None,
                started_at_seconds: 1_700_000_050.0,
            }
        );
        assert_eq!(Process::read("12 (a) S 1", "btime 1\n", 100, 4_096), None);
        assert_eq!(Process::read(stat, "cpu 1\n", 100, 4_096), None);
    }

    #[test]
    fn disk_space_is_read_for_existing_paths() {
        let disk = Disk::at(Path::new("/")).unwrap();
        assert!(disk.size >= disk.free && disk.size > 0);
        assert_eq!(Disk::at(Path::new("/no/such/place")), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn current_process_is_read() {
        let process = Process::current().unwrap();
        assert!(process.resident_bytes > 1 << 20, "{process:?}");
        assert!(process.threads > 0 && process.open_fds > 2, "{process:?}");
        assert!(process.started_at_seconds > 1_700_000_000.0, "{process:?}");
    }
}
