//! Runs `pg_dump` and `pg_restore`. Their data pass through this process, so they end with it.
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
use super::tools::Tools;
use crate::postgres::embedded;

/// Excludes settings that depend on roles, disks and other servers.
const DUMP_ARGUMENTS: [&str; 7] = [
    "--no-owner",
    "--no-privileges",
    "--no-tablespaces",
    "--no-comments",
    "--no-publications",
    "--no-subscriptions",
    "--no-security-labels",
];

/// Writes a dump of the state that `snapshot` shows. Blocks.
pub(super) fn dump(
    tools: &Tools,
    database: &PgConnectOptions,
    snapshot: &str,
    path: &Path,
    mut file: File,
) -> Result<DumpFile, DumpError> {
    let mut command = command(tools, "pg_dump", database);
    command
        // Speed matters more than size here.
        .args(["--format=custom", "--compress=1", "--no-password"])
        .args(DUMP_ARGUMENTS)
        .arg(format!("--snapshot={snapshot}"))
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

/// Restores a dump completely, or not at all. Blocks.
pub(super) fn restore(
    tools: &Tools,
    database: &PgConnectOptions,
    path: &Path,
) -> Result<(), DumpError> {
    let mut file = File::open(path).map_err(DumpError::file("open", path))?;
    let mut command = command(tools, "pg_restore", database);
    let name = database.get_database().unwrap_or_else(|| database.get_username());
    command
        .args(["--single-transaction", "--exit-on-error", "--no-password"])
        .args(DUMP_ARGUMENTS)
        .arg(format!("--dbname={}", quote_dbname(name)))
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let (mut child, stderr) = start("pg_restore", tools, command)?;
    let written = match child.stdin.take() {
        Some(mut pipe) => copy(&mut file, |bytes| pipe.write_all(bytes)),
        None => Ok(()),
    };
    wait("pg_restore", tools, child, stderr)?;
    match written {
        // The program has read all that it needs.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(DumpError::file("read", path)),
    }
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
            let _ = pipe.read_to_end(&mut stderr);
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

/// The name of a database as a connection string. `--dbname` would read some plain names as
/// connection strings.
fn quote_dbname(name: &str) -> String {
    format!("dbname='{}'", name.replace('\\', r"\\").replace('\'', r"\'"))
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
        assert_eq!(quote_dbname(r"it's \"), r"dbname='it\'s \\'");
    }
}
