//! Who may start and stop the PostgreSQL of a data directory, and who uses it.
//!
//! Two lock files, because they answer two questions; the header of [`super`] tells why the pair is
//! safe. Both are `flock`s: the kernel drops them when the process ends, however it ends. The files
//! stay; removing one would let two processes lock two different files of the same name. They are
//! opened close-on-exec, so PostgreSQL does not inherit them and cannot keep them.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::error::EmbeddedError;

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The right to start or stop PostgreSQL. Only one process has it; dropping it gives it back.
#[derive(Debug)]
pub(super) struct LifecycleLock(#[expect(dead_code, reason = "held for its lock")] File);

impl LifecycleLock {
    /// Waits for the turn, at most `wait`.
    pub(super) async fn acquire(path: &Path, timeout: Duration) -> Result<Self, EmbeddedError> {
        let file = open(path)?;
        let started_at = Instant::now();
        let mut logged = false;
        while !try_lock(&file, path, FlockOperation::NonBlockingLockExclusive)? {
            if started_at.elapsed() >= timeout {
                return Err(EmbeddedError::Busy { lock: path.to_owned(), waited: timeout });
            }
            if !logged && started_at.elapsed() > Duration::from_secs(3) {
                tracing::info!(lock = %path.display(), "waiting: another process starts or stops this PostgreSQL");
                logged = true;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(Self(file))
    }
}

/// A sign that this process uses PostgreSQL. Any number of processes may have one.
#[derive(Debug)]
pub(super) struct UsageLock {
    file: File,
    path: PathBuf,
}

impl UsageLock {
    /// Signs on. Needs the turn, so that nobody is just finding out whether they are the last.
    pub(super) fn register(path: &Path, _lock: &LifecycleLock) -> Result<Self, EmbeddedError> {
        let file = open(path)?;
        if try_lock(&file, path, FlockOperation::NonBlockingLockShared)? {
            Ok(Self { file, path: path.to_owned() })
        } else {
            // Only a process that has the turn locks this exclusively, and the turn is ours.
            Err(EmbeddedError::Busy { lock: path.to_owned(), waited: Duration::ZERO })
        }
    }

    /// Whether nobody else has signed on. The kernel may give up our own lock while it tries:
    /// harmless, as nobody else can sign on or ask while we have the turn. Who stays has to
    /// [`Self::sign_on_again`] before giving the turn back.
    pub(super) fn try_exclusive(&self, _lock: &LifecycleLock) -> Result<bool, EmbeddedError> {
        try_lock(&self.file, &self.path, FlockOperation::NonBlockingLockExclusive)
    }

    /// Shares the lock again, whatever [`Self::is_last`] has made of it.
    pub(super) fn restore_shared(&self, _lock: &LifecycleLock) -> Result<(), EmbeddedError> {
        if try_lock(&self.file, &self.path, FlockOperation::NonBlockingLockShared)? {
            return Ok(());
        }
        Err(EmbeddedError::Busy { lock: self.path.clone(), waited: Duration::ZERO })
    }
}

fn open(path: &Path) -> Result<File, EmbeddedError> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(EmbeddedError::file("open the lock file", path))
}

fn try_lock(file: &File, path: &Path, operation: FlockOperation) -> Result<bool, EmbeddedError> {
    loop {
        match flock(file, operation) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(EmbeddedError::file("lock", path)(error.into())),
        }
    }
}
