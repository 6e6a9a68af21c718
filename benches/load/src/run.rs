//! The rounds: reference, subject, reference, subject …

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use crate::footprint;
use crate::report::{self, Measured};
use crate::rows::{self, Described, Figures, Row};
use crate::stage::Stage;

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
    /// The measured program
    #[arg(long, value_name = "FILE", hide = true)]
    muster: PathBuf,
    /// The directory of the compiler's query data
    #[arg(long, value_name = "DIRECTORY", hide = true)]
    sqlx: PathBuf,
    /// An empty directory for all files
    #[arg(long, value_name = "DIRECTORY", hide = true)]
    work: PathBuf,
}

/// Measures and reports. Fails at the end if an answer was wrong or a row could not be measured.
///
/// # Errors
/// See above; or if nothing can be measured.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let chosen = choose(options)?;
    let began = Instant::now();
    let time = Duration::from_secs(options.seconds);
    let mut stage = Stage::set_up(&options.muster, &options.sqlx, &options.work, time)?;
    let mut measured = Vec::new();
    for described in chosen {
        let mut row = (described.row)();
        let mut rounds = Measured::of(described);
        if let Err(error) = measure(row.as_mut(), &mut rounds, &mut stage, options.rounds) {
            eprintln!("{}: {error:#}", described.name);
            rounds.error = Some(format!("{error:#}"));
        }
        measured.push(rounds);
    }
    // Last, because it creates more sessions than all rows together.
    let footprint = match options.wants(footprint::NAME) {
        true => footprint::look(&mut stage),
        false => Ok(Vec::new()),
    };
    let seen = footprint.is_ok();
    // Earlier rows are reported after an error too.
    stage.notes.extend(footprint.unwrap_or_else(|error| {
        eprintln!("{}: {error:#}", footprint::NAME);
        vec![format!("{} could not be measured: {error:#}", footprint::NAME)]
    }));
    let postgres = stage.database.text("show server_version").unwrap_or_else(|_| "?".to_owned());
    let text =
        report::markdown(&measured, &stage.notes, &options.command(), &postgres, began.elapsed());
    println!("{text}");
    if let Some(file) = &options.results {
        std::fs::write(file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if let Some(file) = &options.json {
        let json = serde_json::to_string_pretty(&report::json(&measured))? + "\n";
        std::fs::write(file, json).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let wrong = measured.iter().filter(|rounds| !rounds.is_sound()).count();
    ensure!(wrong == 0, "{wrong} rows are not to be trusted: see above");
    ensure!(seen, "{} could not be measured: see above", footprint::NAME);
    Ok(())
}

impl Options {
    /// Whether a row is selected.
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// The command line of this run, without the paths.
    fn command(&self) -> String {
        let only = self.only.join(",");
        let only = if only.is_empty() { only } else { format!(" --only {only}") };
        format!("benches/run --seconds {} --rounds {}{only}", self.seconds, self.rounds)
    }
}

fn choose(options: &Options) -> anyhow::Result<Vec<&'static Described>> {
    let only = &options.only;
    let names = || rows::ALL.iter().map(|row| row.name).chain([footprint::NAME]);
    if let Some(unknown) = only.iter().find(|name| names().all(|known| known != **name)) {
        let names: Vec<&str> = names().collect();
        bail!("no row is called {unknown}; the rows are {}", names.join(", "));
    }
    Ok(rows::ALL.iter().filter(|row| options.wants(row.name)).collect())
}

fn measure(
    row: &mut dyn Row,
    rounds: &mut Measured,
    stage: &mut Stage,
    number: u64,
) -> anyhow::Result<()> {
    let name = rounds.described.name;
    row.prepare(stage)?;
    for round in 1..=number {
        let (reference, subject) = measure_once(row, stage, round)?;
        let ratio = row.ratio(&subject, &reference);
        eprintln!(
            "{name} {round}/{number}: {ratio:.2} ({:.0}/s beside {:.0}/s)",
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
        rounds.push(ratio, subject, reference);
    }
    Ok(())
}

/// One round, in as many turns as the row needs. After an error the next row still gets its full
/// time.
fn measure_once(
    row: &mut dyn Row,
    stage: &mut Stage,
    round: u64,
) -> anyhow::Result<(Figures, Figures)> {
    let (turns, whole) = (row.turns(), stage.time);
    stage.time = whole / turns;
    let measured = take_turns(row, stage, turns, round.is_multiple_of(2));
    stage.time = whole;
    measured
}

/// Reference and subject take turns to be first, from one round to the next as well.
fn take_turns(
    row: &mut dyn Row,
    stage: &mut Stage,
    turns: u32,
    subject_begins: bool,
) -> anyhow::Result<(Figures, Figures)> {
    let (mut reference, mut subject) = (Figures::default(), Figures::default());
    for turn in 0..turns {
        let reference_begins = (turn % 2 == 1) == subject_begins;
        for reference_is_next in [reference_begins, !reference_begins] {
            if turn == 0 {
                stage.calm()?;
            }
            match reference_is_next {
                true => reference.add(row.reference(stage)?, turns),
                false => subject.add(row.subject(stage)?, turns),
            }
        }
    }
    Ok((reference, subject))
}
