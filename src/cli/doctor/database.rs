//! Checks of the database: its version, clock, schema, feed, secrets and apps.
//!
//! Each check needs the result of the check before it. If the database does not answer, the
//! remaining checks are skipped, because each would wait as long for the same result.

use std::time::Duration;

use super::super::database::{Database, UnsupportedEncoding};
use super::super::explain::explain;
use super::super::external_database::NoPrimary;
use super::super::plaintext_link::{self, PlaintextLink};
use super::report::{Check, Report, Verdict, with_causes};
use super::{forms, keys, pooler, secrets, servers};
use crate::clock::Clock;
use crate::config::Settings;
use crate::postgres::embedded::{EmbeddedError, StartupTimeouts};
use crate::service::DatabaseIdentity;
use crate::service::admin::AdminContext;
use crate::service::admin::diagnosis::{self, DatabaseServer, FeedCondition, MIN_POSTGRES_VERSION};
use crate::service::admin::schema::{self, SchemaState};

const SEE_DATABASE: &str = "see the check of the database";

pub(super) const NAME: &str = "database";
const LINK: &str = "link";
const TLS: &str = "database_tls";
const CLOCK: &str = "clock";
const MIGRATIONS: &str = "migrations";
const FEED: &str = "feed";

/// The maximum difference between the clocks of the database and this machine.
const MAX_SKEW: Duration = Duration::from_secs(2);
/// The maximum age of a change without a number, while servers run.
const MAX_FEED_LAG: Duration = Duration::from_secs(5);
/// The time limit of a check.
const TIMEOUT: Duration = StartupTimeouts::PROBE.ready;

/// Checks the database. Returns its identity if it answers.
pub(super) async fn check(
    settings: &Settings,
    clock: &Clock,
    report: &mut Report,
) -> Option<DatabaseIdentity> {
    for (key, url) in settings.database.used_urls() {
        if let Some(link) = PlaintextLink::find(url) {
            report.add(Check::warn(LINK, link.finding(key), PlaintextLink::REMEDY));
        }
        if let Some(found) = plaintext_link::unverified(url, key) {
            report.add(Check::warn(TLS, found, PlaintextLink::REMEDY));
        }
    }
    if let Some(url) = &settings.database.url {
        servers::check(settings, url, clock).await.into_iter().for_each(|check| report.add(check));
    }
    match open(settings).await {
        Ok(database) => {
            let admin = database.admin(clock);
            if !check_open(&admin, settings, report).await {
                return None;
            }
            let identity = with_timeout(diagnosis::identity(&admin)).await;
            database.close().await;
            identity?.ok()
        }
        Err(check) => {
            let failed = check.verdict == Verdict::Fail;
            report.add(check);
            if failed {
                skip(report, &[CLOCK, MIGRATIONS, FEED, secrets::NAME, forms::NAME]);
            }
            None
        }
    }
}

/// Checks an open database; `false` if it stopped answering, so that closing it would hang.
async fn check_open(admin: &AdminContext, settings: &Settings, report: &mut Report) -> bool {
    let server = match with_timeout(diagnosis::server(admin)).await {
        Some(Ok(server)) => server,
        Some(Err(error)) => {
            report.add(unreachable(settings, with_causes(error)));
            skip(report, &[CLOCK, MIGRATIONS, FEED, secrets::NAME, forms::NAME]);
            return true;
        }
        None => {
            report.add(unreachable(settings, no_answer()));
            skip(report, &[CLOCK, MIGRATIONS, FEED, secrets::NAME, forms::NAME]);
            return false;
        }
    };
    report.add(version(&server));
    report.add(skew(&server));
    if let Some(url) = &settings.database.url
        && !server.is_read_only
    {
        servers::writes(admin, url).await.into_iter().for_each(|check| report.add(check));
    }
    if let Some(found) = with_timeout(pooler::check(admin, &settings.database)).await.flatten() {
        report.add(found);
    }
    let Some(migrations) = with_timeout(migrations(admin)).await else {
        report.add(Check::fail(MIGRATIONS, no_answer(), SEE_DATABASE));
        skip(report, &[FEED, secrets::NAME, forms::NAME]);
        return false;
    };
    let current = migrations.verdict == Verdict::Ok;
    report.add(migrations);
    // The tables of the secrets may be missing if the schema is not current.
    if !current {
        return true;
    }
    let Some(feed) = with_timeout(feed(admin)).await else {
        report.add(Check::fail(FEED, no_answer(), SEE_DATABASE));
        skip(report, &[secrets::NAME, forms::NAME]);
        return false;
    };
    report.add(feed);
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
    if let Some(NoPrimary(found)) = error.downcast_ref() {
        return Err(Check::fail(NAME, found.clone(), NoPrimary::REMEDY));
    }
    Err(match error.downcast_ref::<EmbeddedError>() {
        Some(EmbeddedError::NoPrograms { .. } | EmbeddedError::OtherMajor { .. })
            if settings.database.download =>
        {
            let found = "not checked: its PostgreSQL is not installed here";
            Check::warn(NAME, found, "see the check of postgresql")
        }
        Some(embedded) if embedded.cause_and_remedy().1.is_some() => Check::failed(NAME, embedded),
        _ => unreachable(settings, with_causes(error)),
    })
}

/// Awaits `query`; `None` if the database does not answer in time.
async fn with_timeout<T>(query: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(TIMEOUT, query).await.ok()
}

fn no_answer() -> String {
    format!("no answer within {} s", TIMEOUT.as_secs())
}

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
    if !server.missing_rights.is_empty() {
        let rights = server.missing_rights.join(", ");
        let remedy = "grant them to the role of database.url, or make it the owner of Muster's tables, as \
                      `pg_restore --no-owner` does";
        return Check::fail(NAME, format!("{found}, but the role lacks rights: {rights}"), remedy);
    }
    if !server.filtered_tables.is_empty() {
        let tables = server.filtered_tables.join(", ");
        let found = format!("{found}, but row level security is on for tables of Muster: {tables}");
        let remedy =
            "turn it off: `alter table … disable row level security`; or give the role bypassrls";
        return Check::fail(NAME, found, remedy);
    }
    if !server.missing_tables.is_empty() {
        let tables = server.missing_tables.join(", ");
        let found = format!("{found}, but lacks tables of Muster: {tables}");
        let remedy = "give them their names again, or restore a backup";
        return Check::fail(NAME, found, remedy);
    }
    if !server.hiding_tables.is_empty() {
        let tables = server.hiding_tables.join(", ");
        let found = format!("{found}, but tables in another schema hide those of Muster: {tables}");
        let remedy =
            "rename them, or set the search_path of the role to the schema of Muster's tables";
        return Check::fail(NAME, found, remedy);
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
        Ok(SchemaState::ContractsPending(pending)) => Check::warn(
            MIGRATIONS,
            format!("{pending} of the kind contract pending"),
            "run `muster migrate --contract` after the last server of the previous release has stopped",
        ),
        Ok(SchemaState::Extended(found)) => Check::warn(
            MIGRATIONS,
            format!("a newer Muster has extended the database, by migrations {found:?}"),
            "complete the upgrade: backups need the newer Muster",
        ),
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
        Err(error) => Check::fail(MIGRATIONS, with_causes(error), SEE_DATABASE),
    }
}

/// Finds changes that are not numbered.
async fn feed(admin: &AdminContext) -> Check {
    let FeedCondition { oldest_age, has_leader, servers } =
        match diagnosis::feed_condition(admin).await.map_err(explain) {
            Ok(condition) => condition,
            Err(error) => return Check::fail(FEED, with_causes(error), SEE_DATABASE),
        };
    match oldest_age {
        Some(_) if servers == Some(0) => {
            Check::ok(FEED, "the next server that starts will number the last changes")
        }
        Some(age) if age > MAX_FEED_LAG => {
            let reason = match has_leader {
                true => "the server that numbers them makes no progress",
                false => "no server numbers them",
            };
            let found = format!("changes have no number after {} s: {reason}", age.as_secs());
            let remedy = "search the logs of all servers for `cannot number the changes`";
            Check::fail(FEED, found, remedy)
        }
        _ if has_leader => Check::ok(FEED, "a server numbers changes"),
        _ => Check::ok(FEED, "all changes are numbered"),
    }
}
