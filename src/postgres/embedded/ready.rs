//! Waiting until PostgreSQL answers, and seeing that the database is there.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions, Connection, Row};
use tokio::process::Child;

use super::error::EmbeddedError;
use super::process::{self, Postmaster};
use super::socket::{self, Socket};
use super::version::PostgresVersion;

pub(super) const POLL: Duration = Duration::from_millis(20);
/// Recovery after a crash replays everything since the last checkpoint.
const RECOVERED_WITHIN: Duration = Duration::from_secs(600);
const CONNECTS_WITHIN: Duration = Duration::from_secs(10);

const CANNOT_CONNECT_NOW: &str = "57P03";
const NO_SUCH_DATABASE: &str = "3D000";
const DUPLICATE_DATABASE: &str = "42P04";

/// Facts about a server that answers.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) version: PostgresVersion,
    /// How many connections it accepts, which only a restart can change.
    pub(super) max_connections: u32,
}

/// Waits for a server that we started.
pub(super) async fn wait(
    data: &Path,
    socket: &Socket,
    child: &mut Child,
    log: &Path,
    patience: Duration,
) -> Result<Ready, EmbeddedError> {
    let alive = || match child.try_wait() {
        Ok(Some(status)) => Err(status.to_string()),
        Ok(None) => Ok(()),
        Err(error) => Err(error.to_string()),
    };
    match answer(data, socket, alive, patience).await? {
        Ok(ready) => Ok(ready),
        Err(status) => {
            let tail = process::tail(&last_words(data, log));
            Err(EmbeddedError::Died { status, log: log.to_owned(), tail })
        }
    }
}

/// Waits for a server that runs already, if one does. Returns `None` if it was shutting down and
/// has ended.
pub(super) async fn join(
    data: &Path,
    socket: &Socket,
    patience: Duration,
) -> Result<Option<(Postmaster, Ready)>, EmbeddedError> {
    let Some(postmaster) = socket.listener().await else {
        return Ok(None);
    };
    let gone = || {
        if postmaster.pid().is_none() || postmaster.runs() { Ok(()) } else { Err(String::new()) }
    };
    let ready = answer(data, socket, gone, patience).await?;
    Ok(ready.ok().map(|ready| (postmaster, ready)))
}

/// The inner error describes how the server ended. `patience` limits the wait for a server that
/// neither reports a start nor accepts a connection.
async fn answer(
    data: &Path,
    socket: &Socket,
    mut alive: impl FnMut() -> Result<(), String>,
    mut patience: Duration,
) -> Result<Result<Ready, String>, EmbeddedError> {
    let began = Instant::now();
    let mut told = Duration::ZERO;
    loop {
        if let Err(status) = alive() {
            return Ok(Err(status));
        }
        let left = patience.saturating_sub(began.elapsed()).min(CONNECTS_WITHIN);
        let source = match tokio::time::timeout(left, connect(socket)).await {
            Ok(Ok(mut connection)) => {
                let ready = learn(&mut connection).await;
                let _ = connection.close().await;
                return ready
                    .map(Ok)
                    .map_err(|source| EmbeddedError::Prepare { data: data.to_owned(), source });
            }
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        let starts = match &source {
            // The queue of its socket is full: the server stands still.
            Some(sqlx::Error::Io(error)) => error.kind() != ErrorKind::WouldBlock,
            Some(error) => code(error).as_deref() == Some(CANNOT_CONNECT_NOW),
            None => false,
        };
        if starts {
            patience = RECOVERED_WITHIN;
        }
        let waited = began.elapsed();
        if waited >= patience {
            return Err(EmbeddedError::NotReady { data: data.to_owned(), waited, source });
        }
        if waited >= told + Duration::from_secs(10) {
            let answer = source.map(|error| error.to_string()).unwrap_or_default();
            tracing::warn!(
                seconds = waited.as_secs(),
                answer,
                "PostgreSQL is not ready yet: it may be recovering"
            );
            told = waited;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Connects to our database, and makes it if this is the first start.
async fn connect(socket: &Socket) -> Result<PgConnection, sqlx::Error> {
    let missing = match socket.quiet(socket::NAME).connect().await {
        Err(error) if code(&error).as_deref() == Some(NO_SUCH_DATABASE) => error,
        done => return done,
    };
    tracing::debug!(answer = %missing, "creating the database");
    let mut connection = socket.quiet("postgres").connect().await?;
    match sqlx::raw_sql("create database muster").execute(&mut connection).await {
        Err(error) if code(&error).as_deref() != Some(DUPLICATE_DATABASE) => return Err(error),
        _ => connection.close().await?,
    }
    socket.quiet(socket::NAME).connect().await
}

async fn learn(connection: &mut PgConnection) -> Result<Ready, sqlx::Error> {
    let row = sqlx::query(
        "select current_setting('server_version_num')::int4,
                current_setting('max_connections')::int4",
    )
    .fetch_one(connection)
    .await?;
    let number = u32::try_from(row.try_get::<i32, _>(0)?).unwrap_or_default();
    Ok(Ready {
        version: PostgresVersion { major: number / 10_000, minor: number % 10_000 },
        max_connections: u32::try_from(row.try_get::<i32, _>(1)?).unwrap_or_default(),
    })
}

fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

/// PostgreSQL's last output: its standard error, and its own log once it has opened that.
fn last_words(data: &Path, log: &Path) -> Vec<u8> {
    let mut said = fs::read(log).unwrap_or_default();
    if String::from_utf8_lossy(&said).contains("redirecting log output") {
        let logs = fs::read_dir(data.join("log")).into_iter().flatten().flatten();
        let newest =
            logs.max_by_key(|entry| entry.metadata().and_then(|found| found.modified()).ok());
        said.extend(newest.and_then(|entry| fs::read(entry.path()).ok()).unwrap_or_default());
    }
    said
}
