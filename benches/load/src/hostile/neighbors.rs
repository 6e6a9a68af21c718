//! The latency of an enterprise beside each load of another one: alone, beside the load, alone …

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use super::answers::Answers;
use super::enterprise::Enterprise;
use super::held::raise_file_limit;
use super::loads::{self, LoadData, LoadDefinition};
use super::probe::{Probe, ProbeAnswers};
use crate::environment::{Environment, EnvironmentOptions};
use crate::report::{self, number};
use crate::results;

/// The enterprises: the one with the loads has the sessions of the environment, too.
const BUIN_OF_LOADS: &str = "1";
const BUIN_OF_NEIGHBOR: &str = "3";
/// The largest ratio of two p99.
const GOAL: f64 = 5.0;
/// The time that a load gets before it is measured.
const WARM_UP: Duration = Duration::from_millis(300);
/// The pause after a load.
const PAUSE: Duration = Duration::from_millis(300);

/// The loads to measure, and the file of the results.
#[derive(Args)]
pub struct Options {
    /// Write the results into this file, as a chapter in Markdown
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// Measure only these loads
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    only: Vec<String>,
    /// Seconds of each measurement, at least 1
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Rounds, each with and without the load
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    rounds: u64,
    /// Clients of the load
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    clients: u64,
    /// Changes of the session with the long history
    #[arg(long, value_name = "N", default_value_t = 600)]
    changes: usize,
    #[command(flatten)]
    environment: EnvironmentOptions,
}

/// The rounds of one load.
struct LoadResult {
    definition: &'static LoadDefinition,
    quiet: ProbeAnswers,
    loaded: ProbeAnswers,
    load: Answers,
    notes: Vec<String>,
}

/// Measures and reports. Fails if a request of the neighbor failed.
///
/// # Errors
/// See above; or if nothing can be measured.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let selected = select(&options.only)?;
    let started_at = Instant::now();
    let time = Duration::from_secs(options.seconds);
    raise_file_limit();
    let mut env = Environment::start(&options.environment, time)?;
    let (data, mut probe) = prepare(&env, options.changes)?;
    env.vacuum()?;
    let mut measured = Vec::new();
    for definition in selected {
        let mut result = LoadResult::new(definition);
        for round in 1..=options.rounds {
            for is_quiet in [round % 2 == 1, round % 2 == 0] {
                env.checkpoint()?;
                let clients = usize::try_from(options.clients)?;
                match is_quiet {
                    true => result.quiet.extend(probe.measure(time)?),
                    false => result.measure_loaded(&data, &mut probe, clients, time)?,
                }
            }
        }
        eprintln!("{}", result.describe());
        measured.push(result);
    }
    let command = options.command();
    let load = format!("{} connections, one thread", options.clients);
    let postgres = env.database.text("show server_version")?;
    let conditions = report::conditions(&command, &postgres, &load, started_at.elapsed());
    let text = markdown(&measured, &conditions);
    println!("{text}");
    if let Some(file) = &options.results {
        results::write_chapter(file, &text)?;
    }
    let failed: u64 = measured.iter().map(LoadResult::failed).sum();
    ensure!(failed == 0, "{failed} requests of the neighbor failed: see above");
    Ok(())
}

/// The sessions of both enterprises.
pub fn prepare(env: &Environment, changes: usize) -> anyhow::Result<(LoadData, Probe)> {
    let enterprise = |buin| {
        let app = env.run_command(&["app", "create", "--buin", buin])?;
        let id = app["appId"].as_str().context("no appId")?;
        let key = env.run_command(&["key", "create", "--buin", buin, "--app-id", id])?;
        Enterprise::new(env.port(), &key)
    };
    eprintln!("creating sessions");
    let probe = Probe::new(enterprise(BUIN_OF_NEIGHBOR)?)?;
    Ok((LoadData::create(enterprise(BUIN_OF_LOADS)?, changes)?, probe))
}

fn select(only: &[String]) -> anyhow::Result<Vec<&'static LoadDefinition>> {
    let is_known = |name: &&String| loads::ALL.iter().any(|load| load.name == **name);
    if let Some(unknown) = only.iter().find(|name| !is_known(name)) {
        let names: Vec<&str> = loads::ALL.iter().map(|load| load.name).collect();
        bail!("no load is called {unknown}; the loads are {}", names.join(", "));
    }
    let is_selected =
        |load: &&LoadDefinition| only.is_empty() || only.iter().any(|o| o == load.name);
    Ok(loads::ALL.iter().filter(is_selected).collect())
}

impl Options {
    /// The command line of this run, without the paths.
    fn command(&self) -> String {
        let only = self.only.join(",");
        let only = if only.is_empty() { only } else { format!(" --only {only}") };
        let Self { seconds, rounds, clients, .. } = self;
        format!(
            "benches/run neighbors --seconds {seconds} --rounds {rounds} --clients {clients}{only}"
        )
    }
}

impl LoadResult {
    fn new(definition: &'static LoadDefinition) -> Self {
        let (quiet, loaded) = Default::default();
        Self { definition, quiet, loaded, load: Answers::default(), notes: Vec::new() }
    }

    fn measure_loaded(
        &mut self,
        data: &LoadData,
        probe: &mut Probe,
        clients: usize,
        time: Duration,
    ) -> anyhow::Result<()> {
        let load = data.start(self.definition.name, clients)?;
        std::thread::sleep(WARM_UP);
        let measured = probe.measure(time);
        let (answers, notes) = load.stop().context("the load")?;
        self.loaded.extend(measured?);
        self.load.extend(answers);
        self.notes = notes;
        std::thread::sleep(PAUSE);
        Ok(())
    }

    fn failed(&self) -> u64 {
        let all = [&self.quiet, &self.loaded];
        all.iter().map(|answers| answers.gets.failed() + answers.lists.failed()).sum()
    }

    /// The p99 alone and beside the load, and their ratio.
    fn figures(&self, part: impl Fn(&ProbeAnswers) -> &Answers) -> [f64; 3] {
        let [quiet, loaded] =
            [&self.quiet, &self.loaded].map(|answers| part(answers).latencies.percentile(99));
        [quiet, loaded, loaded / quiet]
    }

    fn describe(&self) -> String {
        let [_, _, gets] = self.figures(|answers| &answers.gets);
        let [_, _, lists] = self.figures(|answers| &answers.lists);
        let name = self.definition.name;
        format!("{name}: get {gets:.1}, list {lists:.1}, {} failed; {}", self.failed(), self.load)
    }
}

fn markdown(results: &[LoadResult], conditions: &str) -> String {
    let mut out = format!("# Neighbors\n\n{conditions}\n");
    out.push_str(
        "| load | get: ratio | list: ratio | goal | get p99 ms alone | beside | list p99 ms alone | beside \
         | failed | answers to the load |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for result in results {
        let [get_quiet, get_loaded, get] = result.figures(|answers| &answers.gets);
        let [list_quiet, list_loaded, list] = result.figures(|answers| &answers.lists);
        let reached = if get.max(list) <= GOAL && result.failed() == 0 { "yes" } else { "no" };
        report::line(
            &mut out,
            &[
                result.definition.name,
                &number(get, 1),
                &number(list, 1),
                &format!("≤ {GOAL:.0}: {reached}"),
                &number(get_quiet, 2),
                &number(get_loaded, 2),
                &number(list_quiet, 2),
                &number(list_loaded, 2),
                &result.failed().to_string(),
                &result.load.to_string(),
            ],
        );
    }
    out.push_str("\nRatios are those of the p99 of the neighbor beside the load and alone, over all rounds.\n\n");
    for result in results {
        let _ = writeln!(out, "- `{}`: {}.", result.definition.name, result.definition.description);
        if result.failed() > 0 {
            let ProbeAnswers { gets, lists } = &result.loaded;
            let name = result.definition.name;
            let _ =
                writeln!(out, "- `{name}`, the neighbor got: {gets} for gets, {lists} for lists.");
        }
        for note in &result.notes {
            let _ = writeln!(out, "- `{}`, at the end: {note}.", result.definition.name);
        }
    }
    out
}
