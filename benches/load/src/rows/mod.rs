//! The measurements: each row has a reference and a subject, measured one after the other.

mod callbacks;
mod compare;
mod feed;
mod feed_latency;
mod feed_streams;
mod idle;
mod reads;
mod row;
mod single_client;
mod sizes;
mod writes;

pub use self::row::{CLIENTS, CONNECTIONS, Figures, Row, THREADS};
use self::single_client::{Reference, SingleClient};
use self::sizes::Clients;

/// A row's name, its description and its goal.
pub struct RowDefinition {
    /// The name, as in the JSON.
    pub name: &'static str,
    /// The subject and the reference.
    pub description: &'static str,
    /// The goal of the ratio.
    pub goal: Goal,
    /// Creates the row.
    pub row: fn() -> Box<dyn Row>,
}

/// The goal of a ratio.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// At least this.
    AtLeast(f64),
    /// At least this, or at least so many in a second.
    AtLeastOrRate(f64, f64),
    /// At most this.
    AtMost(f64),
    /// At most so many milliseconds: the p50 and the p99 of the subject.
    Latency { p50: f64, p99: f64 },
    /// No goal: the row only informs.
    None,
}

macro_rules! row {
    ($name:literal, $goal:expr, $row:expr, $description:literal) => {
        RowDefinition {
            name: $name,
            description: $description,
            goal: $goal,
            row: || Box::new($row),
        }
    };
}

/// All rows, in the order in which they are measured.
pub const ALL: [RowDefinition; 34] = [
    row!(
        "get_cached",
        Goal::AtLeast(0.80),
        reads::Cached::default(),
        "`session/get` over 10,000 sessions that were read before; beside a bare actix handler that seals an answer of the same length, without token, lookup or JSON. Ratio of rates"
    ),
    row!(
        "get_idle",
        Goal::AtLeast(0.90),
        idle::IdleConnections::default(),
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
        writes::HotSession::default(),
        "`session/update` of one session by 64 clients that name no version; beside pgbench with the same guarded statement on one connection. Ratio of rates"
    ),
    row!(
        "feed_create",
        Goal::AtLeast(0.92),
        feed::FeedCreate::default(),
        "`session/create` of 5 members; beside the same without the feed: no outbox row, no number. Ratio of rates"
    ),
    row!(
        "feed_update",
        Goal::AtLeast(0.92),
        feed::FeedUpdate::default(),
        "`session/update`, one member in and one out, over 50,000 sessions; beside the same without the feed, over as many. Ratio of rates"
    ),
    row!(
        "alone_create",
        Goal::AtMost(1.15),
        SingleClient::creates(Reference::Service),
        "`session/create` by one client; beside the straightforward service, whose actix handler opens the request, runs the same statement through sqlx and seals the answer, and does nothing else. Ratio of the two p50: smaller is better"
    ),
    row!(
        "alone_update",
        Goal::AtMost(1.15),
        SingleClient::updates(Reference::Service),
        "`session/update` by one client of 2,000 sessions that were read before; likewise"
    ),
    row!(
        "alone_get",
        Goal::AtMost(1.15),
        SingleClient::gets(Reference::Service),
        "`session/get` by one client over 10,000 sessions, cache as by default; likewise"
    ),
    row!(
        "alone_get_cold",
        Goal::AtMost(1.15),
        SingleClient::cold_gets(Reference::Service),
        "`session/get` by one client over 50,000 sessions without a cache; likewise"
    ),
    row!(
        "alone_create_statement",
        Goal::AtMost(1.15),
        SingleClient::creates(Reference::Statement),
        "`session/create` by one client; beside the statement alone, run through sqlx by the client itself, with no service between it and the database: the cost of HTTP and of another process. Ratio of the two p50"
    ),
    row!(
        "alone_update_statement",
        Goal::AtMost(1.15),
        SingleClient::updates(Reference::Statement),
        "`session/update` by one client of 2,000 sessions that were read before; likewise"
    ),
    row!(
        "alone_get_statement",
        Goal::AtMost(1.15),
        SingleClient::gets(Reference::Statement),
        "`session/get` by one client over 10,000 sessions, cache as by default; likewise"
    ),
    row!(
        "alone_get_cold_statement",
        Goal::AtMost(1.15),
        SingleClient::cold_gets(Reference::Statement),
        "`session/get` by one client over 50,000 sessions without a cache; likewise"
    ),
    row!(
        "compare",
        Goal::AtLeast(0.3),
        compare::Compare::default(),
        "`/v1/sessions/compare` of 200,000 pairs; beside the same lookups in SQL, 2,000 in a statement, on one connection. Ratio of pairs in a second"
    ),
    row!(
        "feed_catch_up",
        Goal::AtLeastOrRate(0.5, 100_000.0),
        feed::CatchUp::default(),
        "`GET /v1/events` from the beginning, 1,000 changes in a page, by one client; beside `copy` of the same rows. Ratio of changes in a second; 100,000 in a second reach the goal as well"
    ),
    row!(
        "feed_latency",
        Goal::Latency { p50: 15.0, p99: 60.0 },
        feed_latency::FeedLatency::default(),
        "From the statement of a `session/create`, by the clock of the database, to the whole event at a client of a stream, commit included, at 5,000 creates in a second or 0.7 of the largest rate; beside `NOTIFY` of as many bytes in a transaction of its own, and one listener. Ratio of the two p50"
    ),
    row!(
        "feed_streams",
        Goal::AtLeast(0.80),
        feed_streams::FeedStreams::default(),
        "`session/create` of 5 members beside 1,000 streams with different filters (700 members, 200 owners, 100 sessions); beside the same without streams. Ratio of rates"
    ),
    row!(
        "feed_idle",
        Goal::AtMost(1.5),
        feed_streams::IdleStreams::default(),
        "`session/get` from memory beside 10,000 idle streams with different filters; beside the same without streams. Ratio of the two p99"
    ),
    row!(
        "callbacks",
        Goal::AtLeast(0.6),
        callbacks::DeliveryRate::SEQUENTIAL,
        "Callbacks of a backlog, delivered to one receiver; beside a bare reqwest loop that sends it the same bytes. Ratio of rates"
    ),
    row!(
        "callbacks_at_once",
        Goal::None,
        callbacks::DeliveryRate::CONCURRENT,
        "The same; beside as many such loops at once as Muster sends to one app (16 by default). Ratio of rates"
    ),
    row!(
        "create_subscribed",
        Goal::None,
        callbacks::CreateWithSubscriber::default(),
        "`session/create` of 5 members with one subscriber, whose callbacks are being sent; beside the same without. Ratio of rates"
    ),
    row!(
        "create_3",
        Goal::None,
        sizes::create(3, Clients::Single),
        "`session/create` of 3 members by one client; beside the same. Ratio of growths: (time of one of these / time of one with 3 members) / (bytes of these / bytes with 3 members), time being the p50. For 3 members it is 1 apart from noise"
    ),
    row!(
        "create_100",
        Goal::AtMost(1.0),
        sizes::create(100, Clients::Single),
        "`session/create` of 100 members by one client; beside 3 members. Ratio of growths: smaller is better"
    ),
    row!(
        "create_2000",
        Goal::AtMost(1.0),
        sizes::create(2_000, Clients::Single),
        "`session/create` of 2000 members by one client; beside 3 members. Ratio of growths: smaller is better"
    ),
    row!(
        "get_3",
        Goal::None,
        sizes::get(3, Clients::Single),
        "`session/get` of 3 members by one client; beside the same. Ratio of growths: 1 apart from noise"
    ),
    row!(
        "get_100",
        Goal::AtMost(1.0),
        sizes::get(100, Clients::Single),
        "`session/get` of 100 members by one client; beside 3 members. Ratio of growths: smaller is better"
    ),
    row!(
        "get_2000",
        Goal::AtMost(1.0),
        sizes::get(2_000, Clients::Single),
        "`session/get` of 2000 members by one client; beside 3 members. Ratio of growths: smaller is better"
    ),
    row!(
        "create_100_at_once",
        Goal::None,
        sizes::create(100, Clients::Concurrent),
        "`session/create` of 100 members on 64 connections; beside 3 members on as many. Ratio of growths, time being 1 / rate: small sessions save time by sharing statements, which counts against large ones"
    ),
    row!(
        "create_2000_at_once",
        Goal::None,
        sizes::create(2_000, Clients::Concurrent),
        "`session/create` of 2000 members on 64 connections; likewise"
    ),
    row!(
        "get_100_at_once",
        Goal::None,
        sizes::get(100, Clients::Concurrent),
        "`session/get` of 100 members on 64 connections; likewise"
    ),
    row!(
        "get_2000_at_once",
        Goal::None,
        sizes::get(2_000, Clients::Concurrent),
        "`session/get` of 2000 members on 64 connections; likewise"
    ),
];
