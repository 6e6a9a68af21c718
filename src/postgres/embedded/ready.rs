//! Waits until PostgreSQL accepts connections, and ensures that the database exists.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions, Connection, Row};
use tokio::process::Child;

use super::error::EmbeddedError;
use super::process::{self, Postmaster};
use super::roles;
use super::socket::{SERVICE, Socket};
use super::untrusted_file;
use super::version::PostgresVersion;

pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Recovery after a crash replays all changes since the last checkpoint.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(600);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

const CANNOT_CONNECT_NOW: &str = "57P03";
const NO_SUCH_DATABASE: &str = "3D000";
const NO_SUCH_ROLE: &str = "28000";

/// Settings of a running server.
#[derive(Debug)]
pub(super) struct ServerSettings {
    pub(super) version: PostgresVersion,
    /// The connection limit of the server, which only a restart can change.
    pub(super) max_connections: u32,
    /// Whether the service would be a superuser, as in data of an earlier version.
    pub(super) has_old_roles: bool,
}

/// Waits for a server that this process started.
pub(super) async fn wait(
    data: &Path,
    socket: &Socket,
    child: &mut Child,
    log: &Path,
    timeout: Duration,
) -> Result<ServerSettings, EmbeddedError> {
    let check_alive = || match child.try_wait() {
        Ok(Some(status)) => Err(status.to_string()),
        Ok(None) => Ok(()),
        Err(error) => Err(error.to_string()),
    };
    match poll_until_ready(data, socket, check_alive, timeout).await? {
        Ok(ready) => Ok(ready),
        Err(status) => {
            let tail = process::last_lines(&log_tail(data, log));
            Err(EmbeddedError::Died { status, log: log.to_owned(), tail })
        }
    }
}

/// Waits for a running server. Returns `None` if no server runs, or if it was shutting down and has
/// ended.
pub(super) async fn join(
    data: &Path,
    socket: &Socket,
    timeout: Duration,
) -> Result<Option<(Postmaster, ServerSettings)>, EmbeddedError> {
    let Some(postmaster) = socket.listener().await else {
        return Ok(None);
    };
    let check_alive = || {
        if postmaster.pid().is_none() || postmaster.is_running() {
            Ok(())
        } else {
            Err(String::new())
        }
    };
    let ready = poll_until_ready(data, socket, check_alive, timeout).await?;
    Ok(ready.ok().map(|ready| (postmaster, ready)))
}

/// The inner error describes the end of the server. `ready_timeout` limits the wait for a server
/// that neither reports a start nor accepts a connection.
async fn poll_until_ready(
    data: &Path,
    socket: &Socket,
    mut check_alive: impl FnMut() -> Result<(), String>,
    mut ready_timeout: Duration,
) -> Result<Result<ServerSettings, String>, EmbeddedError> {
    let started_at = Instant::now();
    let mut logged_at = Duration::ZERO;
    loop {
        if let Err(status) = check_alive() {
            return Ok(Err(status));
        }
        let remaining = ready_timeout.saturating_sub(started_at.elapsed()).min(CONNECT_TIMEOUT);
        let source = match tokio::time::timeout(remaining, connect(socket)).await {
            Ok(Ok(mut connection)) => {
                let ready = query_server_info(&mut connection).await;
                let _ = connection.close().await;
                return ready
                    .map(Ok)
                    .map_err(|source| EmbeddedError::Prepare { data: data.to_owned(), source });
            }
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        let starts = match &source {
            // The queue of the socket is full, so the server does not make progress.
            Some(sqlx::Error::Io(error)) => error.kind() != ErrorKind::WouldBlock,
            Some(error) => code(error) == CANNOT_CONNECT_NOW,
            None => false,
        };
        if starts {
            ready_timeout = RECOVERY_TIMEOUT;
        }
        let waited = started_at.elapsed();
        if waited >= ready_timeout {
            return Err(EmbeddedError::NotReady { data: data.to_owned(), waited, source });
        }
        if waited >= logged_at + Duration::from_secs(10) {
            let answer = source.map(|error| error.to_string()).unwrap_or_default();
            tracing::warn!(
                seconds = waited.as_secs(),
                answer,
                "PostgreSQL is not ready yet: it may be recovering"
            );
            logged_at = waited;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Connects to Muster's database, and creates it and its role at the first start.
async fn connect(socket: &Socket) -> Result<PgConnection, sqlx::Error> {
    let options = socket.internal_options(SERVICE, SERVICE);
    let missing = match options.connect().await {
        Err(error) if [NO_SUCH_DATABASE, NO_SUCH_ROLE].contains(&code(&error).as_str()) => error,
        done => return done,
    };
    tracing::debug!(answer = %missing, "creating the database");
    roles::ensure(socket).await?;
    options.connect().await
}

async fn query_server_info(connection: &mut PgConnection) -> Result<ServerSettings, sqlx::Error> {
    let row = sqlx::query(
        "select current_setting('server_version_num')::int4,
                current_setting('max_connections')::int4,
                current_setting('is_superuser')::bool",
    )
    .fetch_one(connection)
    .await?;
    let number = u32::try_from(row.try_get::<i32, _>(0)?).unwrap_or_default();
    Ok(ServerSettings {
        version: PostgresVersion { major: number / 10_000, minor: number % 10_000 },
        max_connections: u32::try_from(row.try_get::<i32, _>(1)?).unwrap_or_default(),
        has_old_roles: row.try_get(2)?,
    })
}

fn code(error: &sqlx::Error) -> String {
    let code = error.as_database_error().and_then(|error| error.code());
    code.map(Into::into).unwrap_or_default()
}

/// PostgreSQL's last output: its standard error, and its own log once that is open.
fn log_tail(data: &Path, log: &Path) -> Vec<u8> {
    let mut output = fs::read(log).unwrap_or_default();
    if String::from_utf8_lossy(&output).contains("redirecting log output") {
        output.extend(untrusted_file::read_newest(data, "log").unwrap_or_default());
    }
    output
}
