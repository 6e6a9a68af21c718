//! `muster doctor`: checks the installation and prints a remedy for each problem. It changes
//! nothing, and each check takes at most a few seconds.

mod database;
mod forms;
mod keys;
mod local;
mod pooler;
mod ports;
mod report;
mod secrets;
mod servers;

use std::path::Path;
use std::process::ExitCode;

use super::args::Output;
use super::output::OutputError;
use crate::clock::Clock;
use crate::config::{ConfigError, Settings};
use crate::postgres::embedded;
use ports::UsedDatabase;
use report::{Check, Report, Verdict};

/// The report if the configuration is wrong: no other check is possible.
pub(super) fn unconfigured(error: &ConfigError, output: Output) -> Result<ExitCode, OutputError> {
    let mut report = Report::new(output);
    let remedy = "correct it; `muster config` prints every key";
    report.add(Check::fail("configuration", error.to_string(), remedy));
    report.finish()
}

pub(super) async fn run(
    settings: &Settings,
    clock: &Clock,
    output: Output,
) -> Result<ExitCode, OutputError> {
    let mut report = Report::new(output);
    report.add(Check::ok("configuration", "valid"));
    let database = match settings.database.url {
        Some(_) => {
            let identity = database::check(settings, clock, &mut report).await;
            UsedDatabase::External(identity)
        }
        None => {
            embedded(settings, clock, &mut report).await;
            UsedDatabase::Embedded
        }
    };
    if let Some(files) = &settings.server.tls {
        report.add(ports::certificate(files, clock));
    }
    report.add(ports::api(&settings.server, &settings.data_dir, &database).await);
    if let Some(bind) = &settings.metrics.bind {
        report.add(ports::metrics(bind, &settings.data_dir, &database).await);
    }
    report.finish()
}

/// Warns in the log about a disk with little free space, as the report does.
pub(super) fn warn_about_space(data_dir: &Path) {
    let Check { verdict, found, remedy, .. } = local::free_space(data_dir);
    if verdict != Verdict::Ok {
        tracing::warn!("little space on the disk: {found}: {}", remedy.unwrap_or_default());
    }
}

async fn embedded(settings: &Settings, clock: &Clock, report: &mut Report) {
    let data_dir = local::data_dir(&settings.data_dir);
    let usable = data_dir.verdict != Verdict::Fail;
    report.add(data_dir);
    report.add(local::free_space(&settings.data_dir));
    // The content of an unusable directory cannot be checked.
    if !usable {
        return;
    }
    report.add(local::postgresql(settings).await);
    match embedded::is_initialized(&settings.data_dir) {
        Ok(true) => {
            database::check(settings, clock, report).await;
        }
        Ok(false) => {
            let found = "not created yet: the first `muster serve` creates it";
            report.add(Check::ok(database::NAME, found));
        }
        Err(error) => report.add(Check::failed(database::NAME, &error)),
    }
}
