//! The addresses of the servers that run on a data directory, so that `muster doctor` tells them
//! from other programs.
//!
//! Each server has a file of its own, and holds a lock on it. The kernel releases the lock when the
//! process ends, so a file without a lock is left over and says nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

const PREFIX: &str = "server-";
const SUFFIX: &str = ".addresses";

/// The record of this server. Its drop removes it.
pub(super) struct ServerRecord {
    path: PathBuf,
    #[expect(dead_code, reason = "held for its lock")]
    file: File,
}

impl ServerRecord {
    /// Records the addresses of this process, and removes the records of servers that have ended.
    pub(super) fn write(data_dir: &Path, addresses: &[SocketAddr]) -> io::Result<Self> {
        for path in paths(data_dir) {
            if !is_locked(&path) {
                fs::remove_file(path)?;
            }
        }
        let path = data_dir.join(format!("{PREFIX}{}{SUFFIX}", std::process::id()));
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        for address in addresses {
            writeln!(file, "{address}")?;
        }
        Ok(Self { path, file })
    }
}

impl Drop for ServerRecord {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether a server that runs on this data directory listens on the port of `bind`.
pub(super) fn is_served(data_dir: &Path, bind: &str) -> bool {
    let port = |address: &str| address.rsplit(':').next().map(str::to_owned);
    paths(data_dir).into_iter().filter(|path| is_locked(path)).any(|path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().any(|address| port(address) == port(bind))
    })
}

fn paths(data_dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data_dir).into_iter().flatten().flatten();
    let is_record = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX))
    };
    entries.map(|entry| entry.path()).filter(is_record).collect()
}

fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_running_servers_count() {
        let dir = tempfile::tempdir().unwrap();
        let left_over = dir.path().join("server-1.addresses");
        fs::write(&left_over, "127.0.0.1:7080\n").unwrap();
        assert!(!is_served(dir.path(), "127.0.0.1:7080"));
        let addresses = ["127.0.0.1:7080".parse().unwrap(), "[::1]:7081".parse().unwrap()];
        let record = ServerRecord::write(dir.path(), &addresses).unwrap();
        assert!(!left_over.exists());
        for (bind, served) in [
            ("127.0.0.1:7080", true),
            ("localhost:7081", true),
            ("127.0.0.1:708", false),
            ("127.0.0.1:7082", false),
        ] {
            assert_eq!(is_served(dir.path(), bind), served, "{bind}");
        }
        drop(record);
        assert!(!is_served(dir.path(), "127.0.0.1:7080"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(!is_served(Path::new("/nowhere"), "127.0.0.1:7080"));
    }
}
