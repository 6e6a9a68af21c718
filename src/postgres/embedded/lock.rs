//! The two locks of a data directory: the right to start and stop PostgreSQL, and its use.
//!
//! The module [`super`] explains why the pair of locks is safe. Both are `flock`s, which the kernel
//! releases when the process ends. The lock files are never removed: two processes could then lock
//! two different files of the same name. The files are opened close-on-exec, so PostgreSQL does not
//! inherit the locks.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::error::EmbeddedError;

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The right to start or stop PostgreSQL. Only one process has it. Dropping this value releases it.
#[derive(Debug)]
pub(super) struct LifecycleLock(#[expect(dead_code, reason = "held for its lock")] File);

impl LifecycleLock {
    /// Waits for the lock of a data directory, at most `timeout`.
    pub(super) async fn acquire_in(
        data_dir: &Path,
        timeout: Duration,
    ) -> Result<Self, EmbeddedError> {
        Self::acquire(&data_dir.join("postgres.start.lock"), timeout).await
    }

    /// Waits for the lock, at most `timeout`.
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

/// Marks this process as a user of PostgreSQL. Any number of processes may hold this lock.
#[derive(Debug)]
pub(super) struct UsageLock {
    file: File,
    path: PathBuf,
}

impl UsageLock {
    /// Registers this process as a user. The lifecycle lock is required, so that no other process
    /// is testing at this moment whether it is the last user.
    pub(super) fn register(path: &Path, _lock: &LifecycleLock) -> Result<Self, EmbeddedError> {
        let file = open(path)?;
        if try_lock(&file, path, FlockOperation::NonBlockingLockShared)? {
            Ok(Self { file, path: path.to_owned() })
        } else {
            // Only the holder of the lifecycle lock, which is this process, locks the file
            // exclusively.
            Err(EmbeddedError::Busy { lock: path.to_owned(), waited: Duration::ZERO })
        }
    }

    /// Whether this process is the only user. The kernel may release the shared lock of this
    /// process during the attempt. No other process notices, because registering and testing need
    /// the lifecycle lock. A process that keeps using PostgreSQL calls [`Self::restore_shared`]
    /// before it releases the lifecycle lock.
    pub(super) fn try_exclusive(&self, _lock: &LifecycleLock) -> Result<bool, EmbeddedError> {
        try_lock(&self.file, &self.path, FlockOperation::NonBlockingLockExclusive)
    }

    /// Takes the shared lock again, after any result of [`Self::try_exclusive`].
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
