//! The way of the log to standard error.
//!
//! A pipe may be closed by its reader, and a disk may be full. The log must not end the program then,
//! so lines that cannot be written are dropped and counted.

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_subscriber::fmt::MakeWriter;

/// The lines that were dropped since the start of the process, which has one standard error.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// The number of lines of the log that could not be written.
#[must_use]
pub fn dropped_log_lines() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Writes lines to standard error.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogWriter;

impl MakeWriter<'_> for LogWriter {
    type Writer = Dropping<io::Stderr>;

    fn make_writer(&self) -> Self::Writer {
        Dropping { inner: stderr(), dropped: &DROPPED }
    }
}

/// Whether a person sees the lines at once.
pub(super) fn is_terminal() -> bool {
    stderr().is_terminal()
}

#[expect(clippy::disallowed_methods, reason = "this is where the log is written")]
fn stderr() -> io::Stderr {
    io::stderr()
}

/// A writer that never fails. Each call gets a whole line.
pub(super) struct Dropping<W> {
    inner: W,
    dropped: &'static AtomicU64,
}

impl<W: Write> Write for Dropping<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.inner.write_all(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.inner.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_a_reader_are_dropped_and_counted() {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let (reader, writer) = io::pipe().unwrap();
        let mut log = Dropping { inner: writer, dropped: &COUNT };
        log.write_all(b"kept\n").unwrap();
        assert_eq!(COUNT.load(Ordering::Relaxed), 0);
        drop(reader);
        for _ in 0..2 {
            log.write_all(b"lost\n").unwrap();
            log.flush().unwrap();
        }
        assert_eq!(COUNT.load(Ordering::Relaxed), 2);
    }
}
