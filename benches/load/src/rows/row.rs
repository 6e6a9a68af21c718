//! One row: its reference and its subject, and the figures of both.

use crate::generator::Seen;
use crate::latency::Latencies;
use crate::stage::Stage;
use crate::usage::Usage;

/// Connections of the load, kept open.
pub const CONNECTIONS: usize = 64;
/// Threads of the load.
pub const THREADS: usize = 2;
/// Clients of pgbench.
pub const CLIENTS: u64 = 16;
/// Turns of a round in which one client asks.
pub(super) const TURNS: u32 = 20;

/// One measurement.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// How many a second.
    pub rate: f64,
    /// How long they took.
    pub latencies: Latencies,
    /// Bytes on the wire for each, both ways.
    pub bytes: f64,
    /// What it used.
    pub usage: Usage,
    /// Requests that were not answered as they should be.
    pub failed: u64,
    /// What was wrong, the first few.
    pub failures: Vec<String>,
    /// How many answers were opened and compared.
    pub opened: usize,
}

impl Figures {
    pub(super) fn of_load((seen, usage): (Seen, Usage)) -> Self {
        Self {
            rate: seen.rate,
            latencies: seen.latencies,
            bytes: seen.bytes,
            usage,
            failed: seen.failed,
            failures: seen.failures,
            opened: seen.opened,
        }
    }

    pub(super) fn of_rate(rate: f64, usage: Usage) -> Self {
        Self { rate, usage, ..Self::default() }
    }

    /// Takes in one of `turns` that are measured for the same time each.
    pub fn add(&mut self, turn: Self, turns: u32) {
        let part = 1.0 / f64::from(turns);
        self.rate += part * turn.rate;
        self.bytes += part * turn.bytes;
        self.latencies.extend(turn.latencies);
        self.usage.server_cores += part * turn.usage.server_cores;
        self.usage.database_cores += part * turn.usage.database_cores;
        self.usage.server_mib = turn.usage.server_mib;
        self.usage.database_mib = turn.usage.database_mib;
        self.failed += turn.failed;
        self.failures.extend(turn.failures);
        self.opened += turn.opened;
    }

    /// A check that did not hold.
    pub(super) fn wrong(&mut self, what: String) {
        self.failed += 1;
        self.failures.push(what);
    }
}

/// Something to measure.
pub trait Row {
    /// Makes ready what both sides need.
    ///
    /// # Errors
    /// When that fails.
    fn prepare(&mut self, _stage: &mut Stage) -> anyhow::Result<()> {
        Ok(())
    }

    /// In how many turns a round is measured, reference and subject taking them one after the other.
    ///
    /// Many where one request at a time is asked: how long that takes, and how long the disk does,
    /// changes from one second to the next by more than what is to be seen.
    fn turns(&self) -> u32 {
        1
    }

    /// Measures the reference.
    ///
    /// # Errors
    /// When it cannot be measured.
    fn reference(&mut self, stage: &mut Stage) -> anyhow::Result<Figures>;

    /// Measures Muster.
    ///
    /// # Errors
    /// When it cannot be measured.
    fn subject(&mut self, stage: &mut Stage) -> anyhow::Result<Figures>;

    /// Compares the two: rate by rate, unless the row says otherwise.
    fn ratio(&self, subject: &Figures, reference: &Figures) -> f64 {
        subject.rate / reference.rate
    }
}

/// The digits of ids that begin now, so that they land where those of the product do.
pub(super) fn prefix_of_now() -> String {
    format!("{:012x}70008", muster::clock::Clock::system().now().timestamp_millis())
}

/// The variables that every script knows.
pub(super) fn values(stage: &Stage, prefix: &str) -> Vec<(&'static str, String)> {
    vec![
        ("prefix", prefix.to_owned()),
        ("buin", stage.app.buin.to_string()),
        ("app", stage.app.id.clone()),
    ]
}
