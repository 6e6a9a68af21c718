//! The owners of the directories, and the user of PostgreSQL.
//!
//! `postgres` and `initdb` refuse to run as root, so an ordinary user runs them if Muster runs as
//! root. This user owns `postgres/` only; the data directory above it still belongs to root.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fmt, fs, io};

use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::error::EmbeddedError;

const PASSWD: &str = "/etc/passwd";

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
        return Err(EmbeddedError::file("use as a directory", path)(
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
    let create_error = |error| EmbeddedError::file("create", path)(error);
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
        Some((uid, gid)) if uid != 0 => Ok(RunAs::User { uid, gid }),
        Some(_) if cluster.join("PG_VERSION").exists() => {
            let example = ordinary_user().map_or_else(|_| "nobody".to_owned(), |(name, _)| name);
            Err(EmbeddedError::RootOwned { path: cluster.to_owned(), example })
        }
        _ => ordinary_user().map(|(_, user)| user),
    }
}

fn ordinary_user() -> Result<(String, RunAs), EmbeddedError> {
    let passwd = fs::read(PASSWD).map_err(EmbeddedError::file("read", PathBuf::from(PASSWD)))?;
    let passwd = String::from_utf8_lossy(&passwd);
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| Some(((*name).to_owned(), find_user(&passwd, name)?)))
        .ok_or(EmbeddedError::NoOrdinaryUser)
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
}
