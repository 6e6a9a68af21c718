//! Runs `pg_dump` and `pg_restore`. Their data pass through this process, so they end with it.
//!
//! `pg_restore` never connects to a database: it only decodes a dump. A dump is data from outside, and
//! the statements in it are not executed.
//!
//! The address of the database and the password are passed in the environment, because every user
//! can read a command line.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

use percent_encoding::percent_decode_str;
use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;

use super::error::DumpError;
use super::manifest::{Checksum, DumpFile};
use super::regular_file;
use super::tools::Tools;
use crate::postgres::embedded;

/// The maximum size of the list of a dump. The list of a complete database has about 10 KiB.
const MAX_LIST_BYTES: u64 = 1 << 20;

/// The maximum size of the messages of a program that are kept, in bytes.
const MAX_STDERR_BYTES: u64 = 1 << 16;

/// The rows to dump.
pub(super) struct DumpSource {
    /// The database.
    pub(super) database: PgConnectOptions,
    /// The tables, as patterns of `pg_dump`.
    pub(super) tables: Vec<String>,
    /// The state of the database.
    pub(super) snapshot: String,
}

/// Writes a dump of the rows. Blocks.
pub(super) fn dump(
    tools: &Tools,
    source: &DumpSource,
    path: &Path,
    mut file: File,
) -> Result<DumpFile, DumpError> {
    let mut command = command(tools, "pg_dump", &source.database);
    command
        // Speed matters more than size here.
        .args(["--format=custom", "--compress=1", "--no-password", "--data-only"])
        .args(source.tables.iter().map(|table| format!("--table={table}")))
        .arg(format!("--snapshot={}", source.snapshot))
        .stdout(Stdio::piped());
    let (mut child, stderr) = start("pg_dump", tools, command)?;
    let mut checksum = Checksum::default();
    let written = match child.stdout.take() {
        Some(mut pipe) => copy(&mut pipe, |bytes| {
            checksum.add(bytes);
            file.write_all(bytes)
        })
        .and_then(|()| file.sync_all()),
        None => Ok(()),
    };
    if written.is_err() {
        let _ = child.kill();
    }
    let exit = wait("pg_dump", tools, child, stderr);
    written.map_err(DumpError::file("write", path))?;
    exit?;
    Ok(checksum.finish())
}

/// The list of the entries of a dump. Blocks.
pub(super) fn list(tools: &Tools, path: &Path) -> Result<String, DumpError> {
    let file = regular_file::open(path).map_err(DumpError::file("open", path))?;
    let mut command = embedded::bare_command(&tools.program("pg_restore"));
    command.arg("--list").stdin(Stdio::from(file)).stdout(Stdio::piped());
    let (mut child, stderr) = start("pg_restore", tools, command)?;
    let mut list = Vec::new();
    let read = match child.stdout.take() {
        Some(pipe) => pipe.take(MAX_LIST_BYTES + 1).read_to_end(&mut list),
        None => Ok(0),
    };
    let is_too_long = list.len() as u64 > MAX_LIST_BYTES;
    if read.is_err() || is_too_long {
        let _ = child.kill();
    }
    let exit = wait("pg_restore", tools, child, stderr);
    read.map_err(DumpError::file("read", path))?;
    if is_too_long {
        let problem = format!("the list of its entries has more than {MAX_LIST_BYTES} bytes");
        return Err(DumpError::damaged(path, problem));
    }
    exit?;
    Ok(String::from_utf8_lossy(&list).into_owned())
}

/// Passes the rows of a dump to `read`, as a script of statements and rows. Fails if the dump is not
/// the `expected` file. Blocks.
pub(super) fn rows(
    tools: &Tools,
    path: &Path,
    expected: &DumpFile,
    read: impl FnOnce(&mut dyn Read) -> Result<(), DumpError>,
) -> Result<(), DumpError> {
    let mut file = regular_file::open(path).map_err(DumpError::file("open", path))?;
    let mut command = embedded::bare_command(&tools.program("pg_restore"));
    command.args(["--data-only", "--file=-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let (mut child, stderr) = start("pg_restore", tools, command)?;
    let stdin = child.stdin.take();
    // The file is checked once more as it is read, because it may have been replaced meanwhile.
    let feeder = std::thread::spawn(move || {
        let (mut checksum, mut stdin) = (Checksum::default(), stdin);
        let copied = copy(&mut file, |bytes| {
            checksum.add(bytes);
            // The program may end before it has read the last bytes.
            if stdin.as_mut().is_some_and(|pipe| pipe.write_all(bytes).is_err()) {
                stdin = None;
            }
            Ok(())
        });
        copied.map(|()| checksum.finish())
    });
    let result = child.stdout.take().map_or(Ok(()), |mut output| read(&mut output));
    if result.is_err() {
        let _ = child.kill();
    }
    let exit = wait("pg_restore", tools, child, stderr);
    result?;
    exit?;
    let found = feeder.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")));
    if found.map_err(DumpError::file("read", path))? != *expected {
        return Err(DumpError::damaged(path, "it was changed while it was read".to_owned()));
    }
    Ok(())
}

fn copy(from: &mut impl Read, mut to: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            length => to(&buffer[..length])?,
        }
    }
}

/// The standard error of a program, read by a separate thread so that the program never blocks.
type Stderr = JoinHandle<Vec<u8>>;

fn start(
    program: &'static str,
    tools: &Tools,
    mut command: Command,
) -> Result<(Child, Stderr), DumpError> {
    let mut child = command
        .stderr(Stdio::piped())
        .spawn()
        .map_err(DumpError::file("start", tools.program(program)))?;
    let pipe = child.stderr.take();
    let stderr = std::thread::spawn(move || {
        let mut stderr = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.by_ref().take(MAX_STDERR_BYTES).read_to_end(&mut stderr);
            // The program would wait if the rest was not read.
            let _ = io::copy(&mut pipe, &mut io::sink());
        }
        stderr
    });
    Ok((child, stderr))
}

fn wait(
    program: &'static str,
    tools: &Tools,
    mut child: Child,
    stderr: Stderr,
) -> Result<(), DumpError> {
    let status: ExitStatus =
        child.wait().map_err(DumpError::file("wait for", tools.program(program)))?;
    let stderr = embedded::last_lines(&stderr.join().unwrap_or_default());
    if !status.success() {
        return Err(DumpError::Program { program, status, stderr });
    }
    if !stderr.is_empty() {
        tracing::info!(program, stderr, "a program of PostgreSQL wrote messages");
    }
    Ok(())
}

fn command(tools: &Tools, program: &str, database: &PgConnectOptions) -> Command {
    let mut command = embedded::bare_command(&tools.program(program));
    command.envs(environment(database, tools.version.major));
    // The certificates that this process trusts.
    for name in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command
}

/// The connection options as environment variables of PostgreSQL's programs.
fn environment(database: &PgConnectOptions, tools: u32) -> Vec<(&'static str, String)> {
    let mut all = vec![
        ("PGHOST", host(database)),
        ("PGPORT", database.get_port().to_string()),
        ("PGUSER", database.get_username().to_owned()),
        ("PGAPPNAME", "muster copy".to_owned()),
        ("PGCONNECT_TIMEOUT", "30".to_owned()),
    ];
    if let Some(name) = database.get_database() {
        all.push(("PGDATABASE", name.to_owned()));
    }
    if let Some(options) = database.get_options() {
        all.push(("PGOPTIONS", options.to_owned()));
    }
    // The options give no access to the password and the files, but their URL contains them.
    let url = database.to_url_lossy();
    if let Some(password) = url.password() {
        all.push(("PGPASSWORD", percent_decode_str(password).decode_utf8_lossy().into_owned()));
    }
    let mut verifies_with = None;
    for (key, value) in url.query_pairs() {
        let variable = match &*key {
            "sslmode" => {
                if value.starts_with("verify") {
                    verifies_with.get_or_insert(false);
                }
                all.push(("PGSSLMODE", value.into_owned()));
                continue;
            }
            "sslrootcert" => {
                verifies_with = Some(true);
                "PGSSLROOTCERT"
            }
            "sslcert" => "PGSSLCERT",
            "sslkey" => "PGSSLKEY",
            _ => continue,
        };
        all.push((variable, absolute_path(&value)));
    }
    // Muster trusts the certificates of the system. The programs need a setting for this, which
    // differs before version 16.
    if verifies_with == Some(false) {
        let trusted = if tools >= 16 { "system" } else { "/etc/ssl/certs/ca-certificates.crt" };
        all.push(("PGSSLROOTCERT", trusted.to_owned()));
    }
    all
}

/// The host or the directory of the socket. A directory that this process opened is reachable for
/// other processes through this process.
fn host(database: &PgConnectOptions) -> String {
    let Some(socket) = database.get_socket() else {
        return database.get_host().to_owned();
    };
    let socket = socket.display().to_string();
    match socket.strip_prefix("/proc/self/") {
        Some(rest) => format!("/proc/{}/{rest}", std::process::id()),
        None => socket,
    }
}

/// The absolute path of a file in the options, which add a prefix to it. It must be absolute
/// because the programs have another working directory.
fn absolute_path(text: &str) -> String {
    let path = text.strip_prefix("file: ").unwrap_or(text);
    std::path::absolute(path).map_or_else(|_| path.to_owned(), |path| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use super::*;

    fn variable(url: &str, tools: u32, name: &str) -> Option<String> {
        let options = PgConnectOptions::from_str(url).unwrap();
        let all = environment(&options, tools);
        all.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    #[test]
    fn url_becomes_environment_variables() {
        let url = "postgres://al%40ice:p%2B%20%C3%A4@db.example:7000/mine?sslmode=verify-full";
        for (name, value) in [
            ("PGHOST", Some("db.example")),
            ("PGPORT", Some("7000")),
            ("PGUSER", Some("al@ice")),
            ("PGPASSWORD", Some("p+ ä")),
            ("PGDATABASE", Some("mine")),
            ("PGSSLMODE", Some("verify-full")),
            ("PGSSLROOTCERT", Some("system")),
            ("PGSSLKEY", None),
        ] {
            assert_eq!(variable(url, 16, name).as_deref(), value, "{name}");
        }
        assert!(variable(url, 15, "PGSSLROOTCERT").unwrap().ends_with(".crt"));
        let own = "postgres:///mine?host=/run&user=u&sslrootcert=/etc/ca.pem&sslmode=verify-ca";
        assert_eq!(variable(own, 16, "PGHOST").as_deref(), Some("/run"));
        assert_eq!(variable(own, 16, "PGSSLROOTCERT").as_deref(), Some("/etc/ca.pem"));
    }
}
