//! The owners of the directories, and the user of PostgreSQL.
//!
//! `postgres` and `initdb` refuse to run as root, so the user `postgres` runs them if Muster runs as
//! root. This user owns `postgres/` only; the data directory above it still belongs to root. The
//! user is never `nobody`, because unrelated programs run as `nobody`. An earlier version used it, so
//! its directory is handed over.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fmt, fs, io};

use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::error::EmbeddedError;

const PASSWD: &str = "/etc/passwd";
/// The user that runs PostgreSQL if Muster runs as root.
const ORDINARY_USER: &str = "postgres";

/// The user of the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RunAs {
    /// The user who runs Muster.
    CurrentUser,
    /// An ordinary user, because Muster runs as root.
    User {
        /// The user id.
        uid: u32,
        /// The primary group of the user.
        gid: u32,
    },
}

impl RunAs {
    /// Makes a command run as this user. When root sets a uid, the standard library also drops all
    /// supplementary groups, so the child keeps no group of root.
    pub(super) fn apply(&self, command: &mut Command) {
        if let Self::User { uid, gid } = *self {
            use std::os::unix::process::CommandExt;
            command.gid(gid).uid(uid);
        }
    }

    /// Gives an open file to this user.
    pub(super) fn chown_file(&self, file: &File) -> io::Result<()> {
        match *self {
            Self::CurrentUser => Ok(()),
            Self::User { uid, gid } => std::os::unix::fs::fchown(file, Some(uid), Some(gid)),
        }
    }

    /// Gives an empty directory to this user.
    pub(super) fn chown(&self, path: &Path) -> io::Result<()> {
        match *self {
            Self::CurrentUser => Ok(()),
            Self::User { uid, gid } => std::os::unix::fs::chown(path, Some(uid), Some(gid)),
        }
    }
}

impl fmt::Display for RunAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CurrentUser => write!(f, "uid {}", effective_uid()),
            Self::User { uid, .. } => write!(f, "uid {uid}"),
        }
    }
}

/// The uid of this process.
pub(super) fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Refuses a data directory that Muster cannot or must not use. An ordinary user only needs write
/// access, for example to a volume of root that is open to the user's group. Root may write
/// anywhere, so for root the owner decides: files of root in another user's directory would keep
/// that user from starting Muster.
pub(super) fn check_data_dir(path: &Path) -> Result<(), EmbeddedError> {
    let found = fs::metadata(path).map_err(EmbeddedError::file("look at", path))?;
    if !found.is_dir() {
        return Err(EmbeddedError::file("use as data_dir", path)(
            io::ErrorKind::NotADirectory.into(),
        ));
    }
    if effective_uid() == 0 && found.uid() != 0 {
        return Err(EmbeddedError::NotRoots { path: path.to_owned(), owner: found.uid() });
    }
    match access(path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Ok(()),
        // The cause may be a read-only disk, which no owner can change.
        Err(error) if error != Errno::ACCESS => {
            Err(EmbeddedError::file("write in", path)(error.into()))
        }
        Err(_) if found.uid() == effective_uid() => {
            let mode = found.permissions().mode() & 0o7777;
            Err(EmbeddedError::Closed { path: path.to_owned(), mode, owner: found.uid() })
        }
        Err(_) => Err(EmbeddedError::Foreign {
            path: path.to_owned(),
            owner: found.uid(),
            ours: effective_uid(),
        }),
    }
}

/// Refuses a missing directory that Muster could not create.
pub(super) fn check_can_create(path: &Path) -> Result<(), EmbeddedError> {
    let create_error = |error| EmbeddedError::file("create data_dir", path)(error);
    let absolute = std::path::absolute(path).map_err(create_error)?;
    let Some(nearest) = absolute.ancestors().skip(1).find(|parent| parent.exists()) else {
        return Err(create_error(io::ErrorKind::NotFound.into()));
    };
    if !nearest.is_dir() {
        return Err(create_error(io::ErrorKind::NotADirectory.into()));
    }
    access(nearest, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| create_error(error.into()))
}

/// The user of PostgreSQL on `cluster`, which may not exist yet. A directory of another user is
/// refused, because PostgreSQL must own its files.
pub(super) fn run_as(cluster: &Path) -> Result<RunAs, EmbeddedError> {
    let owner = match fs::metadata(cluster) {
        Ok(found) => Some((found.uid(), found.gid())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(EmbeddedError::file("look at", cluster)(error)),
    };
    match owner {
        Some((uid, _)) if effective_uid() != 0 && uid != effective_uid() => {
            Err(EmbeddedError::Foreign {
                path: cluster.to_owned(),
                owner: uid,
                ours: effective_uid(),
            })
        }
        _ if effective_uid() != 0 => Ok(RunAs::CurrentUser),
        Some((uid, gid)) if uid != 0 && !is_nobody(uid)? => Ok(RunAs::User { uid, gid }),
        Some((0, _)) if cluster.join("PG_VERSION").exists() => {
            Err(EmbeddedError::RootOwned { path: cluster.to_owned() })
        }
        _ => ordinary_user(),
    }
}

/// Hands `cluster` over from the user `nobody`, if it belongs to that user. PostgreSQL must not run.
pub(super) fn take_from_nobody(cluster: &Path, run_as: &RunAs) -> Result<(), EmbeddedError> {
    let &RunAs::User { uid, gid } = run_as else { return Ok(()) };
    let found = fs::metadata(cluster).map_err(EmbeddedError::file("look at", cluster))?;
    if found.uid() == uid || !is_nobody(found.uid())? {
        return Ok(());
    }
    tracing::info!(data = %cluster.display(), uid, "taking the database from the user `nobody`");
    hand_over(cluster, found.uid(), (uid, gid))
        .map_err(EmbeddedError::file("change the owner of", cluster))
}

/// Changes the owner of all files of `from` in a directory, and of the directory at last: an
/// interrupted change is continued. No link is followed, and a file with another name elsewhere is
/// left alone.
fn hand_over(path: &Path, from: u32, (uid, gid): (u32, u32)) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            hand_over(&entry?.path(), from, (uid, gid))?;
        }
    } else if found.nlink() != 1 {
        return Ok(());
    }
    if found.uid() == from {
        std::os::unix::fs::lchown(path, Some(uid), Some(gid))?;
    }
    Ok(())
}

/// Whether the directory of PostgreSQL still belongs to the user `nobody`.
pub(super) fn belongs_to_nobody(cluster: &Path) -> Result<bool, EmbeddedError> {
    let found = fs::metadata(cluster).map_err(EmbeddedError::file("look at", cluster))?;
    Ok(effective_uid() == 0 && is_nobody(found.uid())?)
}

fn is_nobody(uid: u32) -> Result<bool, EmbeddedError> {
    let nobody = find_user(&passwd()?, "nobody");
    Ok(matches!(nobody, Some(RunAs::User { uid: nobody, .. }) if nobody == uid))
}

fn ordinary_user() -> Result<RunAs, EmbeddedError> {
    find_user(&passwd()?, ORDINARY_USER).ok_or(EmbeddedError::NoOrdinaryUser)
}

fn passwd() -> Result<String, EmbeddedError> {
    let passwd = fs::read(PASSWD).map_err(EmbeddedError::file("read", PathBuf::from(PASSWD)))?;
    Ok(String::from_utf8_lossy(&passwd).into_owned())
}

/// Each line of the file is `name:password:uid:gid:…`.
fn find_user(passwd: &str, name: &str) -> Option<RunAs> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        (uid != 0).then_some(RunAs::User { uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_exact_name_except_root() {
        let passwd = "root:x:0:0::/root:/bin/sh\npostgresql:x:7:7::/:\npostgres:x:101:104::/:\nnobody:x:0:0::/:\n";
        assert_eq!(find_user(passwd, "postgres"), Some(RunAs::User { uid: 101, gid: 104 }));
        assert_eq!(find_user(passwd, "nobody"), None);
        assert_eq!(find_user(passwd, "daemon"), None);
    }
    #[test]
    fn handing_over_follows_no_link() {
        if effective_uid() != 0 {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let cluster = dir.path().join("postgres");
        fs::create_dir_all(cluster.join("base")).unwrap();
        fs::write(cluster.join("base/1"), "").unwrap();
        let outside = dir.path().join("outside");
        fs::write(&outside, "").unwrap();
        std::os::unix::fs::symlink(&outside, cluster.join("link")).unwrap();
        fs::hard_link(&outside, cluster.join("hard")).unwrap();
        for path in [&cluster, &cluster.join("base"), &cluster.join("base/1"), &outside] {
            std::os::unix::fs::chown(path, Some(65_534), None).unwrap();
        }
        hand_over(&cluster, 65_534, (7, 7)).unwrap();
        let owner = |path: &Path| fs::metadata(path).unwrap().uid();
        for path in [&cluster, &cluster.join("base"), &cluster.join("base/1")] {
            assert_eq!(owner(path), 7, "{}", path.display());
        }
        assert_eq!(owner(&outside), 65_534);
    }
}
