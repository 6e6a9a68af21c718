//! The data directory: its checks, and its creation by `initdb`.
//!
//! | in the data directory | content |
//! | --- | --- |
//! | `postgres/` | PostgreSQL's own directory, with its socket and its `log/` |
//! | `postgres.new-*/` | a new directory in creation; a left-over is removed |
//! | `postgres.start.lock`, `postgres.lock` | see [`super::lock`] |
//! | `postgres-start.log` | the output of PostgreSQL's last start |

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::{fs, io};

use super::error::EmbeddedError;
use super::installation::Installation;
use super::layout::{major, path};
use super::owner::{self, RunAs};
use super::process::{self, ClusterDirectory};
use super::socket;

const PARTIAL_PREFIX: &str = "postgres.new-";

/// Whether the data directory holds an embedded PostgreSQL already.
///
/// # Errors
/// When the files cannot be read, for example because they belong to another user.
pub fn is_initialized(data_dir: &Path) -> Result<bool, EmbeddedError> {
    Ok(major(&path(data_dir))?.is_some())
}

/// The result of [`inspect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataDir {
    /// The directory does not exist, and can be created.
    Missing,
    /// Muster may use the directory.
    Present {
        /// Its permissions.
        mode: u32,
    },
}

impl DataDir {
    /// Whether users other than the owner have any permission on the directory.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Present { mode } if mode & 0o077 != 0)
    }
}

/// Checks a data directory without changing anything.
///
/// # Errors
/// The error with which [`super::EmbeddedPostgres::start`] would refuse the directory.
pub fn inspect(data_dir: &Path) -> Result<DataDir, EmbeddedError> {
    match fs::metadata(data_dir) {
        Ok(metadata) => {
            owner::check_data_dir(data_dir)?;
            let cluster = path(data_dir);
            owner::run_as(&cluster)?;
            major(&cluster)?;
            Ok(DataDir::Present { mode: metadata.permissions().mode() & 0o7777 })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            owner::check_can_create(data_dir)?;
            Ok(DataDir::Missing)
        }
        Err(error) => Err(EmbeddedError::file("enter data_dir", data_dir)(error)),
    }
}

/// The full path of the data directory. A missing directory is created, with access for its owner
/// only.
pub(super) fn open_data_dir(data_dir: &Path) -> Result<PathBuf, EmbeddedError> {
    if inspect(data_dir)? == DataDir::Missing {
        if let Some(parent) = data_dir.parent() {
            fs::create_dir_all(parent).map_err(EmbeddedError::file("create", parent))?;
        }
        // With `recursive`, a directory that another process has just created is no error.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data_dir)
            .map_err(EmbeddedError::file("create data_dir", data_dir))?;
    }
    let data_dir = fs::canonicalize(data_dir).map_err(EmbeddedError::file("resolve", data_dir))?;
    owner::check_data_dir(&data_dir)?;
    Ok(data_dir)
}

/// Creates `postgres/` with `initdb`. The directory gets its final name when all files are on the
/// disk, so an interrupted first start leaves no directory that looks complete. The caller holds
/// the lifecycle lock.
pub(super) async fn create(
    data_dir: &Path,
    installation: &Installation,
    run_as: &RunAs,
) -> Result<(), EmbeddedError> {
    remove_partial(data_dir);
    let target = path(data_dir);
    let occupied = fs::read_dir(&target).is_ok_and(|mut entries| entries.next().is_some());
    if occupied || fs::metadata(&target).is_ok_and(|found| !found.is_dir()) {
        let problem = "holds something, but no PG_VERSION".to_owned();
        return Err(EmbeddedError::NotACluster { path: target, problem });
    }
    tracing::info!(data = %target.display(), version = %installation.version, "creating the database");
    let partial = data_dir.join(format!("{PARTIAL_PREFIX}{:08x}", rand::random::<u32>()));
    // Some systems lack this locale. Only upper and lower case outside ASCII depend on it; order
    // and comparison are bytewise in both.
    let mut result = initdb(&partial, installation, run_as, "C.UTF-8").await;
    if let Err(EmbeddedError::Initdb { output, .. }) = &result
        && output.contains("locale")
    {
        tracing::info!("no locale C.UTF-8 here: using C");
        let _ = fs::remove_dir_all(&partial);
        result = initdb(&partial, installation, run_as, "C").await;
    }
    let result = result.and_then(|()| {
        // The rename may replace an empty directory, but not a mounted one.
        fs::rename(&partial, &target)
            .map_err(EmbeddedError::file("rename the new database to", &target))?;
        let sync = || fs::File::open(data_dir)?.sync_all();
        sync().map_err(EmbeddedError::file("write", data_dir))
    });
    if result.is_err() {
        let _ = fs::remove_dir_all(&partial);
    }
    result
}

/// Runs `initdb`. [`super::access`] writes the rules for clients before the first start, so the
/// rules of `initdb` are never in force.
async fn initdb(
    new: &Path,
    installation: &Installation,
    run_as: &RunAs,
    ctype: &str,
) -> Result<(), EmbeddedError> {
    DirBuilder::new().mode(0o700).create(new).map_err(EmbeddedError::file("create", new))?;
    run_as.chown(new).map_err(EmbeddedError::file("change the owner of", new))?;
    let directory = ClusterDirectory::open(new, run_as)?;
    let program = installation.dir.join("initdb");
    let mut command = process::command(&program, run_as);
    command
        .args(["-U", socket::SUPERUSER, "-A", "reject", "-E", "UTF8", "--locale=C"])
        .arg("--data-checksums")
        .arg(format!("--lc-ctype={ctype}"))
        .arg("-D")
        .arg(directory.argument())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    let child = directory.spawn(&mut command).map_err(|source| EmbeddedError::Spawn {
        program: program.clone(),
        user: run_as.to_string(),
        source,
    })?;
    let output = child.wait_with_output().await.map_err(EmbeddedError::file("run", &program))?;
    if output.status.success() {
        return Ok(());
    }
    let output = process::last_lines(&output.stderr);
    Err(EmbeddedError::Initdb { data: new.to_owned(), program, output })
}

/// Errors are ignored, because the next partial directory has another name.
fn remove_partial(data_dir: &Path) {
    for entry in fs::read_dir(data_dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PARTIAL_PREFIX) {
            tracing::info!(path = %entry.path().display(), "removing the files of an interrupted start");
            if let Err(error) = fs::remove_dir_all(entry.path()) {
                tracing::warn!(path = %entry.path().display(), %error, "could not remove it");
            }
        }
    }
}
