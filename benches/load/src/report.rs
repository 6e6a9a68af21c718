//! Medians over the rounds, as a table for readers and as JSON for programs.

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::rows::{CLIENTS, CONNECTIONS, Figures, Goal, RowDefinition, THREADS};

/// The rounds of a row.
pub struct RowResult {
    /// The row.
    pub definition: &'static RowDefinition,
    /// The error that ended the measurement early.
    pub error: Option<String>,
    ratios: Vec<f64>,
    subjects: Vec<Figures>,
    references: Vec<Figures>,
}

impl RowResult {
    /// A row without rounds.
    pub fn new(definition: &'static RowDefinition) -> Self {
        Self { definition, error: None, ratios: vec![], subjects: vec![], references: vec![] }
    }

    /// Adds a round.
    pub fn push(&mut self, ratio: f64, subject: Figures, reference: Figures) {
        self.ratios.push(ratio);
        self.subjects.push(subject);
        self.references.push(reference);
    }

    /// Whether all rounds were measured and no answer was wrong.
    pub fn is_valid(&self) -> bool {
        self.error.is_none() && self.failed() == 0
    }

    fn failed(&self) -> u64 {
        self.subjects.iter().chain(&self.references).map(|figures| figures.failed).sum()
    }

    fn subject_median(&self, figure: impl Fn(&Figures) -> f64) -> f64 {
        median(self.subjects.iter().map(figure))
    }

    fn reference_median(&self, figure: impl Fn(&Figures) -> f64) -> f64 {
        median(self.references.iter().map(figure))
    }

    fn p50(&self) -> f64 {
        self.subject_median(|figures| figures.latencies.percentile(50))
    }

    fn p99(&self) -> f64 {
        self.subject_median(|figures| figures.latencies.percentile(99))
    }

    fn lowest(&self) -> f64 {
        self.ratios.iter().copied().fold(f64::NAN, f64::min)
    }

    fn highest(&self) -> f64 {
        self.ratios.iter().copied().fold(f64::NAN, f64::max)
    }

    /// Whether the goal is reached, if the row has one. A row without a result does not reach its
    /// goal.
    fn reaches_goal(&self) -> Option<bool> {
        let ratio = median(self.ratios.iter().copied());
        match self.definition.goal {
            Goal::AtLeast(goal) => Some(ratio >= goal),
            Goal::AtLeastOrRate(goal, rate) => {
                Some(ratio >= goal || self.subject_median(|figures| figures.rate) >= rate)
            }
            Goal::Latency { p50, p99 } => Some(self.p50() <= p50 && self.p99() <= p99),
            Goal::AtMost(goal) => Some(ratio <= goal),
            Goal::None => None,
        }
    }

    fn goal(&self) -> String {
        let reached = if self.reaches_goal() == Some(true) { "yes" } else { "no" };
        match self.definition.goal {
            Goal::AtLeast(goal) => format!("≥ {goal:.2}: {reached}"),
            Goal::AtLeastOrRate(goal, rate) => format!("≥ {goal:.2} or {rate:.0}/s: {reached}"),
            Goal::Latency { p50, p99 } => {
                format!("p50 ≤ {p50:.0} ms, p99 ≤ {p99:.0} ms: {reached}")
            }
            Goal::AtMost(goal) => format!("≤ {goal:.2}: {reached}"),
            Goal::None => String::new(),
        }
    }
}

/// The results as JSON. A missing figure is `null`.
pub fn json(results: &[RowResult]) -> Value {
    let rows = results.iter().map(|row| {
        json!({
            "name": row.definition.name,
            "ratio": rounded(median(row.ratios.iter().copied())),
            "min": rounded(row.lowest()),
            "max": rounded(row.highest()),
            "smaller_is_better": (row.definition.row)().smaller_is_better(),
            "rate": rounded(row.subject_median(|figures| figures.rate)),
            "reference_rate": rounded(row.reference_median(|figures| figures.rate)),
            "p50_ms": rounded(row.p50()),
            "p99_ms": rounded(row.p99()),
        })
    });
    rows.collect()
}

/// The results as Markdown.
pub fn markdown(
    results: &[RowResult],
    notes: &[String],
    command: &str,
    postgres: &str,
    elapsed: Duration,
) -> String {
    let mut out = String::from("# Results\n\n");
    let load =
        format!("{CONNECTIONS} kept connections, {THREADS} threads; pgbench: {CLIENTS} clients");
    out.push_str(&conditions(command, postgres, &load, elapsed));
    out.push_str(
        "\n| row | ratio | min – max | goal | rate | reference | p50 ms | p99 ms | reference p50 \
         | server: cores, MiB | database: cores, MiB | database beside reference: cores | opened | wrong |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for row in results {
        let subject = |figure: fn(&Figures) -> f64| row.subject_median(figure);
        let opened: usize = row.subjects.iter().chain(&row.references).map(|f| f.opened).sum();
        line(
            &mut out,
            &[
                row.definition.name,
                &number(median(row.ratios.iter().copied()), 2),
                &format!("{} – {}", number(row.lowest(), 2), number(row.highest(), 2)),
                &row.goal(),
                &number(subject(|figures| figures.rate), 0),
                &number(row.reference_median(|figures| figures.rate), 0),
                &number(row.p50(), 2),
                &number(row.p99(), 2),
                &number(row.reference_median(|figures| figures.latencies.percentile(50)), 2),
                &format!(
                    "{}, {}",
                    number(subject(|figures| figures.usage.server_cores), 2),
                    number(subject(|figures| figures.usage.server_mib), 0)
                ),
                &format!(
                    "{}, {}",
                    number(subject(|figures| figures.usage.database_cores), 2),
                    number(subject(|figures| figures.usage.database_mib), 0)
                ),
                &number(row.reference_median(|figures| figures.usage.database_cores), 2),
                &opened.to_string(),
                &row.failed().to_string(),
            ],
        );
    }
    out.push_str("\nRates are per second. All figures are medians over the rounds.\n\n");
    let missed: Vec<&str> = results
        .iter()
        .filter(|row| row.reaches_goal() == Some(false))
        .map(|row| row.definition.name)
        .collect();
    let missed = if missed.is_empty() { "none".to_owned() } else { missed.join(", ") };
    let _ = writeln!(out, "Goals not reached: {missed}.\n");
    for row in results {
        let _ = writeln!(out, "- `{}`: {}.", row.definition.name, row.definition.description);
    }
    for note in notes {
        let _ = writeln!(out, "- {note}");
    }
    for row in results {
        if let Some(error) = &row.error {
            let _ = writeln!(out, "- **`{}` could not be measured:** {error}", row.definition.name);
        }
        let wrong = row.subjects.iter().chain(&row.references).flat_map(|f| &f.failures).next();
        if let Some(wrong) = wrong {
            let (name, failed) = (row.definition.name, row.failed());
            let _ = writeln!(out, "- **`{name}`: {failed} wrong**, such as: {wrong}");
        }
    }
    out
}

/// The conditions of a run, as a table: date, command, versions, machine, load.
pub fn conditions(command: &str, postgres: &str, load: &str, elapsed: Duration) -> String {
    let today = muster::clock::Clock::system().now().format("%Y-%m-%d %H:%M UTC");
    let cores = std::thread::available_parallelism().map_or(0, Into::into);
    let conditions = [
        ("date", today.to_string()),
        ("command", format!("`{command}`, {} s", elapsed.as_secs())),
        ("muster", output_of("git", &["describe", "--always", "--dirty", "--tags"])),
        ("compiler", output_of("rustc", &["--version"])),
        ("PostgreSQL", postgres.to_owned()),
        (
            "machine",
            format!("{cores} cores, {}, Linux {}", processor(), output_of("uname", &["-r"])),
        ),
        ("load", load.to_owned()),
    ];
    let mut out = String::from("| | |\n| --- | --- |\n");
    conditions.iter().for_each(|(name, value)| line(&mut out, &[name, value]));
    out
}

/// Adds the line of a table.
pub fn line(out: &mut String, cells: &[&str]) {
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}

/// NaN without values, or if one value is NaN.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match (values.len(), values.iter().any(|value| value.is_nan())) {
        (0, _) | (_, true) => f64::NAN,
        (count, _) if count % 2 == 1 => values[count / 2],
        (count, _) => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

/// Rounds to four digits after the point. NaN becomes `null` in JSON.
fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

/// A number with digits after the point; a dash instead of NaN.
pub fn number(value: f64, digits: usize) -> String {
    if value.is_nan() { "–".to_owned() } else { format!("{value:.digits$}") }
}

fn output_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(String::new, |(_, model)| model.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle_value() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert!(median([].into_iter()).is_nan());
    }
}
