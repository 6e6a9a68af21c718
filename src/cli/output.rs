//! Printing: results to standard output, warnings and errors to standard error. Nothing else in the
//! program writes to these two, except the log.
//!
//! Standard output may be a pipe whose reader has ended, or a full disk. The macros of the standard
//! library panic then, so this file does not use them. The surprise: a closed pipe is no failure,
//! because its reader wanted no more, so the command continues and keeps its exit code. Only a new
//! secret must reach its reader.
//!
//! A closed standard output has no error: the standard library opens `/dev/null` in its place before
//! `main`, for reading and writing. A shell opens `> /dev/null` for writing only.

use std::io::{self, Write};
use std::os::fd::AsFd;

use chrono::{DateTime, Utc};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, stat};
use serde::Serialize;

use crate::telemetry;

/// Standard output could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub(super) struct OutputError(#[from] io::Error);

/// Prints a result for people.
pub(super) fn text(text: &str) -> Result<(), OutputError> {
    unless_closed(write_line(stdout(), text))
}

/// A time in the output for people, without its zone, which is UTC.
pub(super) fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// Prints a result for programs.
pub(super) fn json(value: &impl Serialize) -> Result<(), OutputError> {
    text(&to_json(value)?)
}

/// A result for programs, as text.
pub(super) fn to_json(value: &impl Serialize) -> Result<String, OutputError> {
    Ok(serde_json::to_string_pretty(value).map_err(io::Error::from)?)
}

/// Prints a new secret. A closed pipe is a failure here: the secret is lost. So is a closed standard
/// output.
pub(super) fn secret(text: &str) -> Result<(), OutputError> {
    let out = stdout();
    if is_substitute(&out)? {
        return Err(OutputError(io::Error::other("it is closed, or /dev/null that can be read")));
    }
    Ok(write_line(out, text)?)
}

/// Whether a descriptor is `/dev/null`, opened for reading and writing: the substitute for a closed
/// one.
fn is_substitute(out: impl AsFd) -> io::Result<bool> {
    let (found, null) = (fstat(&out)?, stat("/dev/null")?);
    let is_null = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
        && found.st_rdev == null.st_rdev;
    Ok(is_null && fcntl_getfl(&out)? & OFlags::RWMODE == OFlags::RDWR)
}

/// Prints the help, the version, or the mistake in the command line.
pub(super) fn usage(usage: &clap::Error) -> Result<(), OutputError> {
    unless_closed(usage.print())
}

/// Prints a warning about something that the command did nevertheless.
pub(super) fn warning(text: &str) {
    // A warning that cannot be written is lost: there is no other place for it.
    let _ = write_line(stderr(), &format!("warning: {text}"));
}

/// Prints a failure: its message, and each cause on its own line.
pub(super) fn error(error: &anyhow::Error) {
    let _ = write_line(stderr(), &format!("error: {}", causes(error).join("\n  because: ")));
}

#[expect(clippy::disallowed_methods, reason = "this is where commands print")]
fn stdout() -> impl Write + AsFd {
    io::stdout().lock()
}

#[expect(clippy::disallowed_methods, reason = "this is where commands print")]
fn stderr() -> impl Write {
    io::stderr().lock()
}

/// Writes a text and the end of its line at once, and reports every failure.
fn write_line(mut out: impl Write, text: &str) -> io::Result<()> {
    out.write_all(format!("{text}\n").as_bytes())?;
    out.flush()
}

fn unless_closed(written: io::Result<()>) -> Result<(), OutputError> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// The texts of an error and its causes. A cause is left out if an earlier text contains it,
/// because some libraries repeat their cause.
pub(super) fn causes(error: &anyhow::Error) -> Vec<String> {
    let error: &(dyn std::error::Error + 'static) = error.as_ref();
    telemetry::causes(error)
}

/// A table: rows under a header, each column as wide as its widest cell.
pub(super) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; N]| {
        let cells = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let rows = rows.iter().map(|row| line(row.each_ref().map(String::as_str)));
    std::iter::once(line(head)).chain(rows).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    #[test]
    fn substitute_of_a_closed_output_is_recognized() {
        let open = |path, read| OpenOptions::new().read(read).write(true).open(path).unwrap();
        assert!(is_substitute(open("/dev/null", true)).unwrap());
        assert!(!is_substitute(open("/dev/null", false)).unwrap());
        assert!(!is_substitute(open("/dev/full", true)).unwrap());
        assert!(!is_substitute(tempfile::tempfile().unwrap()).unwrap());
    }

    #[test]
    fn only_a_closed_pipe_is_ignored() {
        for (kind, is_failure) in
            [(io::ErrorKind::BrokenPipe, false), (io::ErrorKind::StorageFull, true)]
        {
            assert_eq!(unless_closed(Err(kind.into())).is_err(), is_failure, "{kind}");
        }
    }

    #[test]
    fn repeated_causes_are_left_out() {
        let error =
            anyhow::anyhow!("refused").context("cannot connect: refused").context("no start");
        assert_eq!(super::causes(&error), ["no start", "cannot connect: refused"]);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["1".to_owned(), "项目".to_owned()], ["1000".to_owned(), String::new()]];
        assert_eq!(super::table(["buin", "name"], &rows), "buin  name\n1     项目\n1000");
    }
}
