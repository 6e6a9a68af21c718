//! Checks of the database: its version, clock, schema, secrets and apps.
//!
//! Each check needs the result of the check before it. If the database does not answer, the
//! remaining checks are skipped, because each would wait as long for the same result.

use std::time::Duration;

use super::super::database::{Database, UnsupportedEncoding};
use super::super::explain::explain;
use super::super::plaintext_link::PlaintextLink;
use super::report::{Check, Report, Verdict};
use super::{forms, keys, secrets};
use crate::clock::Clock;
use crate::config::Settings;
use crate::postgres::embedded::{EmbeddedError, StartupTimeouts};
use crate::service::admin::AdminContext;
use crate::service::admin::diagnosis::{self, DatabaseServer, MIN_POSTGRES_VERSION};
use crate::service::admin::schema::{self, SchemaState};

pub(super) const NAME: &str = "database";
const LINK: &str = "link";
const CLOCK: &str = "clock";
const MIGRATIONS: &str = "migrations";
const EVENTS: &str = "events";

/// The maximum difference between the clocks of the database and this machine.
const MAX_SKEW: Duration = Duration::from_secs(2);
/// The time limit of a check.
const TIMEOUT: Duration = StartupTimeouts::PROBE.ready;

pub(super) async fn check(settings: &Settings, clock: &Clock, report: &mut Report) {
    if let Some(link) = settings.database.url.as_ref().and_then(PlaintextLink::find) {
        report.add(Check::warn(LINK, link.finding("database.url"), PlaintextLink::REMEDY));
    }
    match open(settings).await {
        Ok(database) => {
            if check_open(&database.admin(clock), settings, report).await {
                database.close().await;
            }
        }
        Err(check) => {
            let failed = check.verdict == Verdict::Fail;
            report.add(check);
            if failed {
                skip(report, &[CLOCK, MIGRATIONS, EVENTS, secrets::NAME, forms::NAME]);
            }
        }
    }
}

/// Checks an open database; `false` if it stopped answering, so that closing it would hang.
async fn check_open(admin: &AdminContext, settings: &Settings, report: &mut Report) -> bool {
    let server = match with_timeout(diagnosis::server(admin)).await {
        Some(Ok(server)) => server,
        Some(Err(error)) => {
            let error = anyhow::Error::from(error);
            report.add(unreachable(settings, format!("{error:#}")));
            skip(report, &[CLOCK, MIGRATIONS, EVENTS, secrets::NAME, forms::NAME]);
            return true;
        }
        None => {
            report.add(unreachable(settings, no_answer()));
            skip(report, &[CLOCK, MIGRATIONS, EVENTS, secrets::NAME, forms::NAME]);
            return false;
        }
    };
    report.add(version(&server));
    report.add(skew(&server));
    let Some(migrations) = with_timeout(migrations(admin)).await else {
        report.add(Check::fail(MIGRATIONS, no_answer(), SEE_DATABASE));
        skip(report, &[EVENTS, secrets::NAME, forms::NAME]);
        return false;
    };
    let current = migrations.verdict == Verdict::Ok;
    report.add(migrations);
    // The tables of the secrets may be missing if the schema is not current.
    if !current {
        return true;
    }
    let Some(events) = with_timeout(events(admin)).await else {
        report.add(Check::fail(EVENTS, no_answer(), SEE_DATABASE));
        skip(report, &[secrets::NAME, forms::NAME]);
        return false;
    };
    report.add(events);
    let Some(secrets) = with_timeout(secrets::check(admin)).await else {
        report.add(Check::fail(secrets::NAME, no_answer(), SEE_DATABASE));
        skip(report, &[forms::NAME]);
        return false;
    };
    let readable = secrets.verdict != Verdict::Fail;
    report.add(secrets);
    // The apps cannot be read without their secrets.
    if !readable {
        return true;
    }
    let forms = with_timeout(forms::check(admin)).await;
    let is_answering = forms.is_some();
    report.add(forms.unwrap_or_else(|| Check::fail(forms::NAME, no_answer(), SEE_DATABASE)));
    if !is_answering {
        return false;
    }
    let keys = with_timeout(keys::check(admin)).await;
    let is_answering = keys.is_some();
    let finding = keys.unwrap_or_else(|| Some(Check::fail(keys::NAME, no_answer(), SEE_DATABASE)));
    finding.into_iter().for_each(|finding| report.add(finding));
    is_answering
}

async fn open(settings: &Settings) -> Result<Database, Check> {
    let error = match Database::open_for_diagnosis(settings).await {
        Ok(database) => return Ok(database),
        Err(error) => error,
    };
    if let Some(UnsupportedEncoding(found)) = error.downcast_ref() {
        return Err(Check::fail(NAME, found.clone(), UnsupportedEncoding::REMEDY));
    }
    Err(match error.downcast_ref::<EmbeddedError>() {
        Some(EmbeddedError::NoPrograms { .. } | EmbeddedError::OtherMajor { .. })
            if settings.database.download =>
        {
            let found = "not checked: its PostgreSQL is not installed here";
            Check::warn(NAME, found, "see the check of postgresql")
        }
        Some(embedded) if embedded.cause_and_remedy().1.is_some() => Check::failed(NAME, embedded),
        _ => unreachable(settings, format!("{error:#}")),
    })
}

/// Awaits `query`; `None` if the database does not answer in time.
async fn with_timeout<T>(query: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(TIMEOUT, query).await.ok()
}

fn no_answer() -> String {
    format!("no answer within {} s", TIMEOUT.as_secs())
}

const SEE_DATABASE: &str = "see the check of the database";

fn skip(report: &mut Report, checks: &[&'static str]) {
    for check in checks {
        report.add(Check::warn(check, "not checked: the database does not answer", SEE_DATABASE));
    }
}

fn unreachable(settings: &Settings, found: String) -> Check {
    let remedy = match settings.database.url {
        Some(_) => {
            "check database.url, that PostgreSQL runs, and that it accepts this user".to_owned()
        }
        None => format!(
            "follow the message; the log of PostgreSQL is in {}",
            settings.data_dir.join("postgres/log").display()
        ),
    };
    Check::fail(NAME, found, remedy)
}

fn version(server: &DatabaseServer) -> Check {
    let found = format!("PostgreSQL {} answers", server.version);
    if !server.is_supported {
        let remedy = format!("Muster needs PostgreSQL {MIN_POSTGRES_VERSION} or newer: upgrade it");
        return Check::fail(NAME, found, remedy);
    }
    if server.is_read_only {
        let remedy = "connect to the primary server, or set default_transaction_read_only to off \
                      for the server, the database and the role";
        return Check::fail(NAME, format!("{found}, but takes no writes"), remedy);
    }
    Check::ok(NAME, found)
}

fn skew(server: &DatabaseServer) -> Check {
    let skew = server.clock_skew;
    let found = format!("{} ms from the database's", skew.as_millis());
    if skew > MAX_SKEW {
        return Check::warn(CLOCK, found, "synchronize the clocks of both machines by NTP");
    }
    Check::ok(CLOCK, found)
}

async fn migrations(admin: &AdminContext) -> Check {
    match schema::state(admin).await.map_err(explain) {
        Ok(SchemaState::Current) => Check::ok(MIGRATIONS, "current"),
        Ok(SchemaState::Pending(pending)) => Check::warn(
            MIGRATIONS,
            format!("{pending} pending"),
            "run `muster migrate`, or let `muster serve` do it",
        ),
        Ok(SchemaState::Newer(found)) => Check::fail(
            MIGRATIONS,
            format!("the database is newer than this program: it has unknown migrations {found:?}"),
            "run the newer Muster, or restore a backup made before it",
        ),
        Ok(SchemaState::Broken(version)) => Check::fail(
            MIGRATIONS,
            format!("migration {version} did not finish or has another text than in this program"),
            "restore a backup, or compare the schema with the file of that number by hand",
        ),
        Err(error) => Check::fail(MIGRATIONS, format!("{error:#}"), SEE_DATABASE),
    }
}

/// Finds a database that was copied from another PostgreSQL by PostgreSQL's own tools.
async fn events(admin: &AdminContext) -> Check {
    match schema::has_future_events(admin).await.map_err(explain) {
        Ok(false) => Check::ok(EVENTS, "numbered by this PostgreSQL"),
        Ok(true) => Check::fail(
            EVENTS,
            "the database is a copy from another PostgreSQL: some events have transaction ids of that one",
            "run `muster migrate`, which gives them new ids",
        ),
        Err(error) => Check::fail(EVENTS, format!("{error:#}"), SEE_DATABASE),
    }
}
