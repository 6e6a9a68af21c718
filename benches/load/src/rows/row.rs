//! One row: its reference, its subject, and the figures of both.

use crate::environment::Environment;
use crate::generator::LoadResult;
use crate::latency::Latencies;
use crate::usage::Usage;

/// Kept connections of the load.
pub const CONNECTIONS: usize = 64;
/// Threads of the load.
pub const THREADS: usize = 2;
/// Clients of pgbench.
pub const CLIENTS: u64 = 16;
/// Time slices of a round with one client.
pub(super) const SLICES: u32 = 20;

/// One measurement.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// The rate, per second.
    pub rate: f64,
    /// The latencies.
    pub latencies: Latencies,
    /// Bytes on the wire for each request, in both directions.
    pub bytes: f64,
    /// CPU and memory.
    pub usage: Usage,
    /// The number of wrong answers.
    pub failed: u64,
    /// The texts of the first failures.
    pub failures: Vec<String>,
    /// The number of opened and compared answers.
    pub opened: usize,
}

impl Figures {
    pub(super) fn from_load((result, usage): (LoadResult, Usage)) -> Self {
        Self {
            rate: result.rate,
            latencies: result.latencies,
            bytes: result.bytes,
            usage,
            failed: result.failed,
            failures: result.failures,
            opened: result.opened,
        }
    }

    pub(super) fn from_rate(rate: f64, usage: Usage) -> Self {
        Self { rate, usage, ..Self::default() }
    }

    /// Adds one of `slices` slices of equal duration.
    pub fn add(&mut self, slice: Self, slices: u32) {
        let share = 1.0 / f64::from(slices);
        self.rate += share * slice.rate;
        self.bytes += share * slice.bytes;
        self.latencies.extend(slice.latencies);
        self.usage.server_cores += share * slice.usage.server_cores;
        self.usage.database_cores += share * slice.usage.database_cores;
        self.usage.server_mib = slice.usage.server_mib;
        self.usage.database_mib = slice.usage.database_mib;
        self.failed += slice.failed;
        self.failures.extend(slice.failures);
        self.opened += slice.opened;
    }

    /// Counts a failed check.
    pub(super) fn add_failure(&mut self, failure: String) {
        self.failed += 1;
        self.failures.push(failure);
    }
}

/// A measurement.
pub trait Row {
    /// Prepares both sides.
    ///
    /// # Errors
    /// If the preparation fails.
    fn prepare(&mut self, _stage: &mut Environment) -> anyhow::Result<()> {
        Ok(())
    }

    /// The number of slices in a round. Reference and subject alternate.
    ///
    /// Many slices for one client: the latency of a request and of the disk changes from one second
    /// to the next by more than the difference that is measured.
    fn slices(&self) -> u32 {
        1
    }

    /// Measures the reference.
    ///
    /// # Errors
    /// If the reference cannot be measured.
    fn reference(&mut self, env: &mut Environment) -> anyhow::Result<Figures>;

    /// Measures Muster.
    ///
    /// # Errors
    /// If Muster cannot be measured.
    fn subject(&mut self, env: &mut Environment) -> anyhow::Result<Figures>;

    /// The ratio of the rates, unless the row defines another.
    fn ratio(&self, subject: &Figures, reference: &Figures) -> f64 {
        subject.rate / reference.rate
    }

    /// Whether a small ratio is good, as for latencies.
    fn smaller_is_better(&self) -> bool {
        false
    }
}

/// The digits of ids of this moment, so that new rows are inserted at the same place as those of
/// Muster.
pub(super) fn current_id_prefix() -> String {
    format!("{:012x}70008", muster::clock::Clock::system().now().timestamp_millis())
}

/// The variables of every script.
pub(super) fn values(env: &Environment, prefix: &str) -> Vec<(&'static str, String)> {
    vec![
        ("prefix", prefix.to_owned()),
        ("buin", env.app.buin.to_string()),
        ("app", env.app.id.clone()),
    ]
}
