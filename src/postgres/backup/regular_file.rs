//! Opens the files of a backup, which may come from other hands.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat, open as open_file};
use rustix::io::Errno;

/// Opens a regular file for reading. A symbolic link is not followed: it could lead to a device. A named
/// pipe is not waited for.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let not_regular = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
    let file = match open_file(path, flags, Mode::empty()) {
        Err(Errno::LOOP) => return Err(not_regular("it is a symbolic link, not a regular file")),
        opened => opened?,
    };
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(File::from(file)),
        _ => Err(not_regular("it is not a regular file")),
    }
}
