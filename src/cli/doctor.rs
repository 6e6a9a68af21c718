//! `muster doctor`: is everything as it must be, and if not, what to do. It changes nothing.

mod here;
mod secrets;

use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use super::store::Store;
use super::{Output, health, output};
use crate::clock::Clock;
use crate::config::{ConfigError, Server, Settings};
use crate::http::Bound;
use crate::repository::embedded::{self, EmbeddedError};
use crate::repository::migrations::Standing;
use crate::repository::probe;

/// Clocks may differ by this much.
const SKEW: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Serialize)]
struct Check {
    check: &'static str,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Check {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), remedy: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, ..Self::fail(check, found, remedy) }
    }

    fn fail(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Self { check, verdict: Verdict::Fail, found: found.into(), remedy }
    }

    /// What the embedded PostgreSQL would say at the start of a server.
    fn failed(check: &'static str, error: &EmbeddedError) -> Self {
        let (mut found, remedy) = error.cause_and_remedy();
        if let Some(source) = std::error::Error::source(error) {
            let _ = write!(found, ": {source}");
        }
        Self::fail(check, found, remedy.unwrap_or_else(|| "do what it says there".to_owned()))
    }
}

/// The report where already the configuration is wrong.
pub(super) fn unconfigured(error: &ConfigError, output: Output) -> ExitCode {
    let remedy = "correct it; `muster config` prints every key";
    report(&[Check::fail("configuration", error.to_string(), remedy)], output)
}

pub(super) async fn run(
    settings: &Settings,
    clock: &Clock,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let mut checks = vec![Check::ok("configuration", "valid")];
    if settings.database.url.is_none() {
        let data_dir = here::data_dir(&settings.data_dir);
        let usable = data_dir.verdict != Verdict::Fail;
        checks.extend([data_dir, here::room(&settings.data_dir)]);
        // What is in a directory that cannot be used does not matter yet.
        if usable {
            checks.push(here::programs(settings).await);
            match embedded::initialised(&settings.data_dir) {
                Ok(true) => checks.extend(database(settings, clock).await),
                Ok(false) => checks.push(Check::ok(
                    "database",
                    "not made yet: the first `muster serve` does that",
                )),
                Err(error) => checks.push(Check::failed("database", &error)),
            }
        }
    } else {
        checks.extend(database(settings, clock).await);
    }
    checks.extend(settings.server.tls.as_ref().map(here::certificate));
    checks.push(port(&settings.server).await);
    Ok(report(&checks, output))
}

async fn database(settings: &Settings, clock: &Clock) -> Vec<Check> {
    const NAME: &str = "database";
    let unreachable = |error: &dyn std::fmt::Display| {
        let remedy = match settings.database.url {
            Some(_) => {
                "check database.url, that PostgreSQL runs, and that it lets this user in".to_owned()
            }
            None => format!(
                "do what it says there; PostgreSQL's own log is in {}",
                settings.data_dir.join("postgres/log").display()
            ),
        };
        Check::fail(NAME, error.to_string(), remedy)
    };
    // It only looks: nothing is downloaded.
    let mut looking = settings.clone();
    looking.database.download = false;
    let store = match Store::open(&looking).await {
        Ok(store) => store,
        Err(error) => {
            return vec![match error.downcast_ref::<EmbeddedError>() {
                Some(EmbeddedError::NoPrograms { .. } | EmbeddedError::OtherMajor { .. })
                    if settings.database.download =>
                {
                    let found = "not looked at: its PostgreSQL is not here";
                    Check::warn(NAME, found, "see the check of postgresql")
                }
                Some(embedded) if embedded.cause_and_remedy().1.is_some() => {
                    Check::failed(NAME, embedded)
                }
                _ => unreachable(&format!("{error:#}")),
            }];
        }
    };
    let server = probe::server(&store.pool).await;
    let checks = match server {
        Err(error) => vec![unreachable(&format!("{:#}", anyhow::Error::from(error)))],
        Ok(server) => {
            let migrations = migrations(&store).await;
            let secrets = match migrations.verdict {
                Verdict::Ok => Some(secrets::check(&store).await),
                // Their tables may not be there.
                Verdict::Warn | Verdict::Fail => None,
            };
            let checks = [version(&server), skew(&server, clock), migrations];
            checks.into_iter().chain(secrets).collect()
        }
    };
    store.close().await;
    checks
}

fn version(server: &probe::Server) -> Check {
    let found = format!("PostgreSQL {} answers", server.version);
    if server.major < probe::OLDEST {
        return Check::fail(
            "database",
            found,
            format!("Muster needs PostgreSQL {} or newer: upgrade it", probe::OLDEST),
        );
    }
    Check::ok("database", found)
}

fn skew(server: &probe::Server, clock: &Clock) -> Check {
    let skew = (clock.now() - server.now).abs().to_std().unwrap_or_default();
    let found = format!("{} ms from the database's", skew.as_millis());
    if skew > SKEW {
        return Check::warn("clock", found, "let NTP set the clocks of both machines");
    }
    Check::ok("clock", found)
}

async fn migrations(store: &Store) -> Check {
    const NAME: &str = "migrations";
    match store.standing().await {
        Ok(Standing::Current) => Check::ok(NAME, "current"),
        Ok(Standing::Pending(pending)) => Check::warn(
            NAME,
            format!("{} pending", pending.len()),
            "run `muster migrate`, or let `muster serve` do it",
        ),
        Ok(Standing::Newer(found)) => Check::fail(
            NAME,
            format!("the database is newer than this program: it has {found:?}"),
            "run the newer Muster, or restore a backup made before it",
        ),
        Ok(Standing::Unfinished(version) | Standing::Altered(version)) => Check::fail(
            NAME,
            format!("migration {version} is not as this program left it"),
            "restore a backup, or compare the schema with the file of that number by hand",
        ),
        Err(error) => Check::fail(NAME, format!("{error:#}"), "see the check of the database"),
    }
}

async fn port(server: &Server) -> Check {
    const NAME: &str = "port";
    let bind = &server.bind;
    let error = match Bound::bind(bind) {
        Ok(_) => return Check::ok(NAME, format!("{bind} is free")),
        Err(error) => error,
    };
    if error.kind() == io::ErrorKind::AddrInUse
        && let Some(health) = health::running_at(&health::url(server)).await
    {
        return Check::ok(NAME, format!("{bind} is held by a running Muster {}", health.version));
    }
    Check::fail(
        NAME,
        format!("{bind}: {error}"),
        "stop the program that listens there, or set server.bind",
    )
}

fn report(checks: &[Check], output: Output) -> ExitCode {
    if output.json {
        // Text and nothing but text: it can be printed.
        let _ = output::json(&checks);
    } else {
        for check in checks {
            let verdict = match check.verdict {
                Verdict::Ok => "ok  ",
                Verdict::Warn => "warn",
                Verdict::Fail => "FAIL",
            };
            output::text(&format!("{verdict}  {:13}  {}", check.check, check.found));
            if let Some(remedy) = &check.remedy {
                output::text(&format!("{:19}  -> {remedy}", ""));
            }
        }
    }
    let failed = checks.iter().any(|check| check.verdict == Verdict::Fail);
    ExitCode::from(u8::from(failed))
}
