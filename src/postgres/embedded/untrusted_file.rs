//! Reads files in PostgreSQL's directory, for messages that quote them.
//!
//! The directory belongs to the user of PostgreSQL. If Muster runs as root, that user could link a
//! file there to one that only root may read. So no link in the directory is followed, and only
//! regular files are read.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat, open, openat};

/// The longest text that is read: the end of a file, in bytes.
const MAX_LEN: u64 = 64 * 1024;

/// The end of the file `name` in `directory`. The directory itself may be reached by links.
pub(super) fn read(directory: &Path, name: &str) -> io::Result<Vec<u8>> {
    read_in(&open(directory, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?, name)
}

/// The end of the newest file in the directory `below` of `directory`; empty if it has none.
pub(super) fn read_newest(directory: &Path, below: &str) -> io::Result<Vec<u8>> {
    let parent = open(directory, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let below = openat(parent, below, flags, Mode::empty())?;
    let mut newest = None;
    for entry in rustix::fs::Dir::read_from(&below)? {
        let name = entry?.file_name().to_owned();
        let Ok(found) = rustix::fs::statat(&below, &name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        else {
            continue;
        };
        let is_file = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
        let written_at = (found.st_mtime, found.st_mtime_nsec);
        if is_file && newest.as_ref().is_none_or(|(at, _)| *at < written_at) {
            newest = Some((written_at, name));
        }
    }
    newest.map_or(Ok(Vec::new()), |(_, name)| read_in(&below, &*name))
}

fn read_in(directory: &OwnedFd, name: impl rustix::path::Arg) -> io::Result<Vec<u8>> {
    // A named pipe would otherwise be waited for.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(directory, name, flags, Mode::empty())?;
    let found = fstat(&file)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut file = File::from(file);
    let length = u64::try_from(found.st_size).unwrap_or_default();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_LEN)))?;
    let mut end = Vec::new();
    file.take(MAX_LEN).read_to_end(&mut end)?;
    Ok(end)
}

/// Whether a file was not read because it is a link.
pub(super) fn is_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::CWD;

    use super::*;

    #[test]
    fn links_inside_of_the_directory_are_not_followed() {
        let (secrets, cluster) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(secrets.path().join("shadow"), "root:Sesame").unwrap();
        symlink(secrets.path().join("shadow"), cluster.path().join("PG_VERSION")).unwrap();
        symlink(secrets.path(), cluster.path().join("log")).unwrap();
        assert!(is_link(&read(cluster.path(), "PG_VERSION").unwrap_err()));
        assert!(read_newest(cluster.path(), "log").is_err());

        // Links in a real directory of logs do not count.
        fs::remove_file(cluster.path().join("log")).unwrap();
        fs::create_dir(cluster.path().join("log")).unwrap();
        symlink(secrets.path().join("shadow"), cluster.path().join("log/newest")).unwrap();
        assert_eq!(read_newest(cluster.path(), "log").unwrap(), b"");
        fs::write(cluster.path().join("log/real"), "started").unwrap();
        assert_eq!(read_newest(cluster.path(), "log").unwrap(), b"started");

        // The directory itself may be on another disk.
        let link = secrets.path().join("postgres");
        symlink(cluster.path().join("log"), &link).unwrap();
        assert_eq!(read(&link, "real").unwrap(), b"started");
    }

    #[test]
    fn only_the_end_of_regular_files_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let long = "a".repeat(100_000) + "end";
        fs::write(directory.path().join("long"), &long).unwrap();
        let found = read(directory.path(), "long").unwrap();
        assert!(found.len() == 64 * 1024 && found.ends_with(b"aend"));
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(read(directory.path(), "pipe").is_err());
        assert!(read(directory.path(), "none").is_err());
        fs::create_dir(directory.path().join("directory")).unwrap();
        assert!(read(directory.path(), "directory").is_err());
    }
}
