//! The directory of a backup, which no other user may be able to replace.
//!
//! A user who may write to a directory on the path could rename the next one, and put files of the
//! same names in its place before they are read. So each directory up to the root is checked, not
//! only the last one.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::process::{getegid, geteuid, getgroups};

use super::error::DumpError;

/// In a directory with this bit, a user can rename only entries of that user.
const STICKY: u32 = 0o1000;

/// Creates the directory, with access for its owner only, or checks an existing one. Returns its
/// path without symbolic links.
pub(super) fn prepare(dir: &Path) -> Result<PathBuf, DumpError> {
    let failed = |error| DumpError::file("make the directory", dir)(error);
    match fs::metadata(dir) {
        Ok(found) => {
            let dir = fs::canonicalize(dir).map_err(failed)?;
            check(&dir, &found)?;
            dir.ancestors().skip(1).try_for_each(check_ancestor)?;
            if fs::read_dir(&dir).map_err(failed)?.next().is_some() {
                return Err(DumpError::DirectoryNotEmpty(dir));
            }
            fs::set_permissions(&dir, Permissions::from_mode(0o700)).map_err(failed)?;
            Ok(dir)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(dir),
        Err(error) => Err(failed(error)),
    }
}

/// Creates the directory and those above it, in a directory that is safe.
fn create(dir: &Path) -> Result<PathBuf, DumpError> {
    let failed = |error| DumpError::file("make the directory", dir)(error);
    let existing = dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let missing = dir.strip_prefix(existing).unwrap_or(dir);
    let existing = fs::canonicalize(existing).map_err(failed)?;
    existing.ancestors().try_for_each(check_ancestor)?;
    let dir = existing.join(missing);
    if let Some(parent) = dir.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
    }
    // Fails if another user has created it meanwhile.
    DirBuilder::new().mode(0o700).create(&dir).map_err(failed)?;
    Ok(dir)
}

/// Refuses an existing directory that other users own or may write to.
fn check(path: &Path, found: &Metadata) -> Result<(), DumpError> {
    if found.is_dir() && found.uid() != geteuid().as_raw() {
        return Err(DumpError::DirectoryOfAnother { path: path.to_owned(), owner: found.uid() });
    }
    let mode = found.mode() & 0o7777;
    if found.is_dir() && mode & 0o022 != 0 {
        return Err(DumpError::DirectoryWritable { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Refuses a directory on the path in which other users could replace the next one. It may belong to
/// root, and a group of this process may write to it.
fn check_ancestor(path: &Path) -> Result<(), DumpError> {
    let found = fs::metadata(path).map_err(DumpError::file("check the directory", path))?;
    let mode = found.mode() & 0o7777;
    if ![0, geteuid().as_raw()].contains(&found.uid()) {
        return Err(DumpError::AncestorOfAnother { path: path.to_owned(), owner: found.uid() });
    }
    let is_writable = mode & 0o002 != 0 || (mode & 0o020 != 0 && !is_own_group(found.gid()));
    if is_writable && mode & STICKY == 0 {
        return Err(DumpError::AncestorWritable { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Whether this process has a group. Volumes of containers are writable for a group of their
/// processes.
fn is_own_group(group: u32) -> bool {
    let others = getgroups().unwrap_or_default();
    getegid().as_raw() == group || others.iter().any(|own| own.as_raw() == group)
}
