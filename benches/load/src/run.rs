//! The rounds: reference, subject, reference, subject …

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use crate::environment::{Environment, EnvironmentOptions};
use crate::footprint;
use crate::report::{self, RowResult};
use crate::results;
use crate::rows::{self, Figures, Row, RowDefinition};

/// The rows to measure, and the files of the results.
#[derive(Args)]
pub struct Options {
    /// Write the results to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the results to this file, as Markdown
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// Measure only these rows
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    only: Vec<String>,
    /// Seconds of each measurement, at least 1
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Rounds, each with a reference and a subject
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,
    #[command(flatten)]
    environment: EnvironmentOptions,
}

/// Measures and reports. Fails at the end if an answer was wrong or a row could not be measured.
///
/// # Errors
/// See above; or if nothing can be measured.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let selected = select_rows(options)?;
    let started_at = Instant::now();
    let time = Duration::from_secs(options.seconds);
    let mut env = Environment::start(&options.environment, time)?;
    let mut results = Vec::new();
    for definition in selected {
        let mut row = (definition.row)();
        let mut result = RowResult::new(definition);
        if let Err(error) = measure(row.as_mut(), &mut result, &mut env, options.rounds) {
            eprintln!("{}: {error:#}", definition.name);
            result.error = Some(format!("{error:#}"));
        }
        results.push(result);
    }
    // Last, because it creates more sessions than all rows together.
    let footprint = match options.is_selected(footprint::NAME) {
        true => footprint::measure(&mut env),
        false => Ok(Vec::new()),
    };
    let footprint_measured = footprint.is_ok();
    // Earlier rows are reported after an error too.
    env.notes.extend(footprint.unwrap_or_else(|error| {
        eprintln!("{}: {error:#}", footprint::NAME);
        vec![format!("{} could not be measured: {error:#}", footprint::NAME)]
    }));
    let postgres = env.database.text("show server_version").unwrap_or_else(|_| "?".to_owned());
    let text =
        report::markdown(&results, &env.notes, &options.command(), &postgres, started_at.elapsed());
    println!("{text}");
    if let Some(file) = &options.results {
        results::write_chapter(file, &text)?;
    }
    if let Some(file) = &options.json {
        let json = serde_json::to_string_pretty(&report::json(&results))? + "\n";
        std::fs::write(file, json).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let wrong = results.iter().filter(|result| !result.is_valid()).count();
    ensure!(wrong == 0, "{wrong} rows are not reliable: see above");
    ensure!(footprint_measured, "{} could not be measured: see above", footprint::NAME);
    Ok(())
}

impl Options {
    /// Whether a row is selected.
    fn is_selected(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// The command line of this run, without the paths.
    fn command(&self) -> String {
        let only = self.only.join(",");
        let only = if only.is_empty() { only } else { format!(" --only {only}") };
        format!("benches/run --seconds {} --rounds {}{only}", self.seconds, self.rounds)
    }
}

fn select_rows(options: &Options) -> anyhow::Result<Vec<&'static RowDefinition>> {
    let only = &options.only;
    let names = || rows::ALL.iter().map(|row| row.name).chain([footprint::NAME]);
    if let Some(unknown) = only.iter().find(|name| names().all(|known| known != **name)) {
        let names: Vec<&str> = names().collect();
        bail!("no row is called {unknown}; the rows are {}", names.join(", "));
    }
    Ok(rows::ALL.iter().filter(|row| options.is_selected(row.name)).collect())
}

fn measure(
    row: &mut dyn Row,
    result: &mut RowResult,
    env: &mut Environment,
    rounds: u64,
) -> anyhow::Result<()> {
    let name = result.definition.name;
    row.prepare(env)?;
    for round in 1..=rounds {
        let (reference, subject) = measure_once(row, env, round)?;
        let ratio = row.ratio(&subject, &reference);
        eprintln!(
            "{name} {round}/{rounds}: {ratio:.2} ({:.0}/s beside {:.0}/s)",
            subject.rate, reference.rate
        );
        for figures in [&reference, &subject] {
            if figures.failed > 0 {
                eprintln!(
                    "{name}: {} wrong, such as {}",
                    figures.failed,
                    figures.failures.join("; ")
                );
            }
        }
        result.push(ratio, subject, reference);
    }
    Ok(())
}

/// One round, in as many slices as the row needs. After an error the next row still gets its full
/// time.
fn measure_once(
    row: &mut dyn Row,
    env: &mut Environment,
    round: u64,
) -> anyhow::Result<(Figures, Figures)> {
    let (slices, round_time) = (row.slices(), env.time);
    env.time = round_time / slices;
    let figures = alternate(row, env, slices, round.is_multiple_of(2));
    env.time = round_time;
    figures
}

/// Reference and subject alternate in being first, also from one round to the next.
fn alternate(
    row: &mut dyn Row,
    env: &mut Environment,
    slices: u32,
    subject_begins: bool,
) -> anyhow::Result<(Figures, Figures)> {
    let (mut reference, mut subject) = (Figures::default(), Figures::default());
    for slice in 0..slices {
        let reference_begins = (slice % 2 == 1) == subject_begins;
        for reference_is_next in [reference_begins, !reference_begins] {
            if slice == 0 {
                env.checkpoint()?;
            }
            match reference_is_next {
                true => reference.add(row.reference(env)?, slices),
                false => subject.add(row.subject(env)?, slices),
            }
        }
    }
    Ok((reference, subject))
}
