//! What is measured: each row has a reference and a subject, measured one after the other.

mod alone;
mod callbacks;
mod idle;
mod reads;
mod sizes;
mod writes;

use self::alone::{Alone, Beside};
use self::sizes::Clients;
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
const TURNS: u32 = 20;

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
    fn of_load((seen, usage): (Seen, Usage)) -> Self {
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

    fn of_rate(rate: f64, usage: Usage) -> Self {
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
    fn wrong(&mut self, what: String) {
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

/// A row's name, what it measures and what is to be reached.
pub struct Described {
    /// As in the JSON.
    pub name: &'static str,
    /// What is measured, beside what.
    pub what: &'static str,
    /// What the ratio is to be.
    pub goal: Goal,
    /// Makes the row.
    pub row: fn() -> Box<dyn Row>,
}

/// What a ratio is to be.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
    /// It is there to be seen.
    None,
}

macro_rules! row {
    ($name:literal, $goal:expr, $row:expr, $what:literal) => {
        Described { name: $name, what: $what, goal: $goal, row: || Box::new($row) }
    };
}

/// All rows, in the order in which they are measured.
pub const ALL: [Described; 27] = [
    row!(
        "get_cached",
        Goal::AtLeast(0.80),
        reads::Cached::default(),
        "`session/get` over 10,000 sessions that were read before; beside a bare actix handler that seals an answer of the same length, without token, look-up or JSON. Ratio of rates"
    ),
    row!(
        "get_idle",
        Goal::AtLeast(0.90),
        idle::Beside::default(),
        "`session/get` from memory beside 10,000 idle connections; beside the same without them. Ratio of rates"
    ),
    row!(
        "get_cold",
        Goal::AtLeast(0.75),
        reads::Cold::default(),
        "`session/get` over 50,000 sessions without a cache; beside pgbench with the same select. Ratio of rates"
    ),
    row!(
        "create",
        Goal::AtLeast(2.0),
        writes::Create::default(),
        "`session/create` of 5 members; beside pgbench with the same statement for one session. Ratio of rates"
    ),
    row!(
        "update",
        Goal::AtLeast(2.0),
        writes::Update::default(),
        "`session/update`, one member in and one out, over 50,000 sessions; beside pgbench with the same guarded statement for one session, over as many. Ratio of rates"
    ),
    row!(
        "hot_session",
        Goal::AtLeast(5.0),
        writes::Hot::default(),
        "`session/update` of one session by 64 clients that name no version; beside pgbench with the same guarded statement on one connection. Ratio of rates"
    ),
    row!(
        "alone_create",
        Goal::AtMost(1.15),
        Alone::creates(Beside::Service),
        "`session/create` by one client; beside the straightforward service, whose actix handler opens the request, runs the same statement through sqlx and seals the answer, and does nothing else. Ratio of the two p50: smaller is better"
    ),
    row!(
        "alone_update",
        Goal::AtMost(1.15),
        Alone::updates(Beside::Service),
        "`session/update` by one client of 2,000 sessions that were read before; likewise"
    ),
    row!(
        "alone_get",
        Goal::AtMost(1.15),
        Alone::gets(Beside::Service),
        "`session/get` by one client over 10,000 sessions, cache as by default; likewise"
    ),
    row!(
        "alone_get_cold",
        Goal::AtMost(1.15),
        Alone::cold_gets(Beside::Service),
        "`session/get` by one client over 50,000 sessions without a cache; likewise"
    ),
    row!(
        "alone_create_statement",
        Goal::AtMost(1.15),
        Alone::creates(Beside::Statement),
        "`session/create` by one client; beside the statement alone, run through sqlx by the client itself, with no service between it and the database: what HTTP and another process on the way take. Ratio of the two p50"
    ),
    row!(
        "alone_update_statement",
        Goal::AtMost(1.15),
        Alone::updates(Beside::Statement),
        "`session/update` by one client of 2,000 sessions that were read before; likewise"
    ),
    row!(
        "alone_get_statement",
        Goal::AtMost(1.15),
        Alone::gets(Beside::Statement),
        "`session/get` by one client over 10,000 sessions, cache as by default; likewise"
    ),
    row!(
        "alone_get_cold_statement",
        Goal::AtMost(1.15),
        Alone::cold_gets(Beside::Statement),
        "`session/get` by one client over 50,000 sessions without a cache; likewise"
    ),
    row!(
        "callbacks",
        Goal::AtLeast(0.6),
        callbacks::Delivered::BARE,
        "Callbacks of a backlog, delivered to one receiver; beside a bare reqwest loop that sends it the same bytes. Ratio of rates"
    ),
    row!(
        "callbacks_at_once",
        Goal::None,
        callbacks::Delivered::AT_ONCE,
        "The same; beside as many such loops at once as Muster sends to one app (16 by default). Ratio of rates"
    ),
    row!(
        "create_subscribed",
        Goal::None,
        callbacks::Subscribed::default(),
        "`session/create` of 5 members with one subscriber, whose callbacks are being sent; beside the same without. Ratio of rates"
    ),
    row!(
        "create_3",
        Goal::None,
        sizes::Create::new(3, Clients::Alone),
        "`session/create` of 3 members by one client; beside the same. Ratio of growths: (time of one of these / time of one with 3 members) / (bytes of these / bytes with 3 members), time being the p50. For 3 members it is 1 but for noise"
    ),
    row!(
        "create_100",
        Goal::AtMost(1.0),
        sizes::Create::new(100, Clients::Alone),
        "`session/create` of 100 members by one client; beside 3 members. Ratio of growths: smaller is better"
    ),
    row!(
        "create_2000",
        Goal::AtMost(1.0),
        sizes::Create::new(2_000, Clients::Alone),
        "`session/create` of 2000 members by one client; beside 3 members. Ratio of growths: smaller is better"
    ),
    row!(
        "get_3",
        Goal::None,
        sizes::Get::new(3, Clients::Alone),
        "`session/get` of 3 members by one client; beside the same. Ratio of growths: 1 but for noise"
    ),
    row!(
        "get_100",
        Goal::AtMost(1.0),
        sizes::Get::new(100, Clients::Alone),
        "`session/get` of 100 members by one client; beside 3 members. Ratio of growths: smaller is better"
    ),
    row!(
        "get_2000",
        Goal::AtMost(1.0),
        sizes::Get::new(2_000, Clients::Alone),
        "`session/get` of 2000 members by one client; beside 3 members. Ratio of growths: smaller is better"
    ),
    row!(
        "create_100_at_once",
        Goal::None,
        sizes::Create::new(100, Clients::AtOnce),
        "`session/create` of 100 members on 64 connections; beside 3 members on as many. Ratio of growths, time being 1 / rate: what small ones save by sharing statements counts against large ones"
    ),
    row!(
        "create_2000_at_once",
        Goal::None,
        sizes::Create::new(2_000, Clients::AtOnce),
        "`session/create` of 2000 members on 64 connections; likewise"
    ),
    row!(
        "get_100_at_once",
        Goal::None,
        sizes::Get::new(100, Clients::AtOnce),
        "`session/get` of 100 members on 64 connections; likewise"
    ),
    row!(
        "get_2000_at_once",
        Goal::None,
        sizes::Get::new(2_000, Clients::AtOnce),
        "`session/get` of 2000 members on 64 connections; likewise"
    ),
];

/// Sets of sessions, by their numbers, and how many are in each.
pub mod sets {
    /// Sessions that are read.
    pub const READ: (u64, u64) = (1, 50_000);
    /// Sessions that are updated through Muster.
    pub const UPDATED: (u64, u64) = (2, 50_000);
    /// Sessions that are updated by pgbench.
    pub const UPDATED_BY_REFERENCE: (u64, u64) = (3, 50_000);
    /// Sessions that one client updates, beside a service and beside a statement.
    pub const ALONE: [(u64, u64); 2] = [(4, 2_000), (9, 2_000)];
    /// Sessions that are updated by that service, and by that statement.
    pub const ALONE_BY_REFERENCE: [(u64, u64); 2] = [(5, 2_000), (10, 2_000)];
    /// The first of these is the hot session.
    pub const HOT: (u64, u64) = (6, 16);
    /// The first of these is the hot session of the reference.
    pub const HOT_BY_REFERENCE: (u64, u64) = (7, 16);
    /// More than there is room for in the cache.
    pub const MANY: (u64, u64) = (8, 1_000_000);
}

/// The digits of ids that begin now, so that they land where those of the product do.
fn prefix_of_now() -> String {
    format!("{:012x}70008", muster::clock::Clock::system().now().timestamp_millis())
}

/// The variables that every script knows.
fn values(stage: &Stage, prefix: &str) -> Vec<(&'static str, String)> {
    vec![
        ("prefix", prefix.to_owned()),
        ("buin", stage.app.buin.to_string()),
        ("app", stage.app.id.clone()),
    ]
}
