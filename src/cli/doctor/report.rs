//! The report of the doctor. Text is printed check by check, JSON as one array at the end.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use super::super::args::Output;
use super::super::output::{self, OutputError};
use crate::postgres::embedded::EmbeddedError;

#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// An error and its causes, as one text without repetitions.
pub(super) fn with_causes(error: impl Into<anyhow::Error>) -> String {
    output::causes(&error.into()).join(": ")
}

/// The result of one check.
#[derive(Serialize)]
pub(super) struct Check {
    pub(super) check: &'static str,
    pub(super) verdict: Verdict,
    pub(super) found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

impl Check {
    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), remedy: None }
    }

    pub(super) fn warn(
        check: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { verdict: Verdict::Warn, ..Self::fail(check, found, remedy) }
    }

    pub(super) fn fail(
        check: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let remedy = Some(remedy.into());
        Self { check, verdict: Verdict::Fail, found: found.into(), remedy }
    }

    /// The failure that the embedded PostgreSQL would report at the start of a server.
    pub(super) fn failed(check: &'static str, error: &EmbeddedError) -> Self {
        let (mut found, remedy) = error.cause_and_remedy();
        if let Some(source) = std::error::Error::source(error) {
            let _ = write!(found, ": {source}");
        }
        Self::fail(check, found, remedy.unwrap_or_else(|| "follow the message".to_owned()))
    }
}

/// The results so far.
pub(super) struct Report {
    output: Output,
    checks: Vec<Check>,
    /// Whether the results could be printed. The first failure ends the printing, not the checks.
    printed: Result<(), OutputError>,
}

impl Report {
    pub(super) fn new(output: Output) -> Self {
        Self { output, checks: Vec::new(), printed: Ok(()) }
    }

    pub(super) fn add(&mut self, check: Check) {
        if !self.output.json && self.printed.is_ok() {
            self.printed = show(&check);
        }
        self.checks.push(check);
    }

    /// Prints the JSON if it was requested. The exit code is 1 if a check failed.
    ///
    /// # Errors
    /// The results could not be printed.
    pub(super) fn finish(self) -> Result<ExitCode, OutputError> {
        self.printed?;
        if self.output.json {
            output::json(&self.checks)?;
        }
        let failed = self.checks.iter().any(|check| check.verdict == Verdict::Fail);
        Ok(ExitCode::from(u8::from(failed)))
    }
}

fn show(check: &Check) -> Result<(), OutputError> {
    let verdict = match check.verdict {
        Verdict::Ok => "ok  ",
        Verdict::Warn => "warn",
        Verdict::Fail => "FAIL",
    };
    output::text(&format!("{verdict}  {:13}  {}", check.check, check.found))?;
    match &check.remedy {
        Some(remedy) => output::text(&format!("{:19}  -> {remedy}", "")),
        None => Ok(()),
    }
}
