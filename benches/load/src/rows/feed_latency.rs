//! The time from a change to a client of a stream.
//!
//! The time begins in the statement of the change, by the clock of the database, which is that of the
//! client. The commit follows it, so the time from the commit is shorter. The time from the answer to the
//! change is noted as well. The commit is before the answer, so the time from the commit is longer than
//! that.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use chrono::{DateTime, Utc};
use muster::clock::Clock;
use serde_json::Value;

use super::feed::create_key;
use super::row::{CONNECTIONS, Figures, Row, THREADS};
use crate::app::App;
use crate::environment::Environment;
use crate::event_stream::EventStream;
use crate::generator::{LoadResult, Script, float};
use crate::latency::Latencies;
use crate::notify;
use crate::scripts::Creates;
use crate::usage::Usage;

/// The most changes in a second.
const MAX_RATE: f64 = 5_000.0;
/// The part of the largest rate of this machine at which the latency is measured.
const SHARE: f64 = 0.7;
/// The time that the stream gets for its last changes.
const LAST_EVENTS_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of the first session. Other rows use smaller numbers.
const FIRST_SESSION: u64 = 1_000_000;

/// Creates at a fixed rate, followed by one stream.
#[derive(Default)]
pub(super) struct FeedLatency {
    authorization: String,
    rate: f64,
    next_session: u64,
    /// The bytes of an event.
    event: Vec<u8>,
}

impl Row for FeedLatency {
    fn prepare(&mut self, env: &mut Environment) -> anyhow::Result<()> {
        self.authorization = create_key(env)?;
        self.next_session = FIRST_SESSION;
        let mut scripts: Vec<Creates> = (0..THREADS).map(|_| Creates::new(&env.app, 5)).collect();
        let followed = follow(env, &self.authorization, |env| {
            env.load(None, &mut scripts, CONNECTIONS / THREADS)
        })?;
        let most = followed.load.0.rate;
        self.rate = (SHARE * most).min(MAX_RATE);
        env.notes.push(format!(
            "feed_latency: {:.0} changes/s, because at most {most:.0}/s are possible with one stream.",
            self.rate
        ));
        // The reference sends events of the same length.
        let mut script = [NumberedCreates::new(&env.app, self.next_session, 1)];
        self.next_session += 1;
        let followed =
            follow(env, &self.authorization, |env| env.load_at_rate(&mut script, 1, self.rate))?;
        self.event = followed.event;
        Ok(())
    }

    fn reference(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let (rate, latencies, usage) = notify::measure(env, &self.event, self.rate)?;
        env.notes.push(format!(
            "feed_latency reference: {rate:.0} notifications/s, {}.",
            describe(&latencies)
        ));
        Ok(Figures { latencies, ..Figures::from_rate(rate, usage) })
    }

    fn subject(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let count = self.rate * env.time.as_secs_f64() / float(THREADS as u64);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let count = count.ceil() as u64 + 1;
        let mut scripts: Vec<NumberedCreates> = Vec::new();
        for _ in 0..THREADS {
            scripts.push(NumberedCreates::new(&env.app, self.next_session, count));
            self.next_session += count;
        }
        let Followed { load, changes, .. } = follow(env, &self.authorization, |env| {
            env.load_at_rate(&mut scripts, CONNECTIONS / THREADS, self.rate)
        })?;
        let acknowledged = load.0.acknowledged;
        let mut figures = Figures::from_load(load);
        let answered: HashMap<u64, Instant> =
            scripts.iter().flat_map(|script| script.answered.iter().copied()).collect();
        let (mut from_statement, mut from_answer) = (Latencies::default(), Latencies::default());
        let (now, now_utc) = (Instant::now(), Clock::system().now());
        for (number, received) in &changes {
            let Some(answered_at) = answered.get(number) else { continue };
            from_answer.push(received.at.saturating_duration_since(*answered_at));
            let since_change = (now_utc - received.changed_at).to_std().unwrap_or_default();
            from_statement.push(since_change.saturating_sub(now - received.at));
        }
        env.notes.push(format!(
            "feed_latency: {:.0} changes/s; from the statement {}; from the answer {}.",
            figures.rate,
            describe(&from_statement),
            describe(&from_answer)
        ));
        if from_statement.len() as u64 != acknowledged {
            let got = from_statement.len();
            figures.add_failure(format!("{got} events of {acknowledged} changes"));
        }
        figures.latencies = from_statement;
        Ok(figures)
    }

    fn ratio(&self, subject: &Figures, reference: &Figures) -> f64 {
        subject.latencies.percentile(50) / reference.latencies.percentile(50)
    }

    fn smaller_is_better(&self) -> bool {
        true
    }
}

fn describe(latencies: &Latencies) -> String {
    let [p50, p99] = [50, 99].map(|percent| latencies.percentile(percent));
    format!("p50 {p50:.1} ms, p99 {p99:.1} ms")
}

/// A change that a stream has got.
struct ReceivedChange {
    /// The time of the statement.
    changed_at: DateTime<Utc>,
    /// The time at which the whole event was there.
    at: Instant,
}

/// A load, and what a stream beside it has got.
struct Followed {
    load: (LoadResult, Usage),
    /// The changes by the numbers of their sessions.
    changes: HashMap<u64, ReceivedChange>,
    /// One of the events.
    event: Vec<u8>,
}

/// Runs `load` beside a stream of all changes.
fn follow(
    env: &mut Environment,
    authorization: &str,
    load: impl FnOnce(&mut Environment) -> anyhow::Result<(LoadResult, Usage)>,
) -> anyhow::Result<Followed> {
    let mut stream = EventStream::open(env.port(), authorization, "")?;
    let (is_over, count) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut received = Vec::new();
            let read = stream.read(&is_over, |event| {
                if event.windows(14).any(|window| window == b"\nevent: change") {
                    received.push((Instant::now(), event.to_vec()));
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
            read.map(|()| received)
        });
        let load = load(env);
        let expected = load.as_ref().map_or(0, |(result, _)| result.acknowledged);
        let deadline = Instant::now() + LAST_EVENTS_TIMEOUT;
        while count.load(Ordering::Relaxed) < expected && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        is_over.store(true, Ordering::Relaxed);
        let received = reader.join().map_err(|_| anyhow::anyhow!("the reader has panicked"))??;
        let event = received.last().map_or_else(Vec::new, |(_, event)| event.clone());
        Ok(Followed { load: load?, changes: parse(received)?, event })
    })
}

/// Checks that each change follows the one before, and finds its session's number and its time.
fn parse(events: Vec<(Instant, Vec<u8>)>) -> anyhow::Result<HashMap<u64, ReceivedChange>> {
    let (mut changes, mut last) = (HashMap::new(), None);
    for (at, event) in events {
        let text = String::from_utf8(event)?;
        let (_, data) = text.split_once("\ndata: ").context("an event without data")?;
        let data: Value = serde_json::from_str(data)?;
        let seq = data["seq"].as_i64();
        ensure!(last.is_none() || data["prevSeq"].as_i64() == last, "a gap before {seq:?}");
        last = seq;
        let title = data["changes"]["title"].as_str().context("a change without a title")?;
        let number = title.rsplit(' ').next().and_then(|number| number.parse().ok());
        let changed_at = data["at"].as_str().context("no time")?.parse()?;
        let number = number.context("a title without a number")?;
        changes.insert(number, ReceivedChange { changed_at, at });
    }
    Ok(changes)
}

/// Creates of sessions whose numbers are different.
struct NumberedCreates {
    requests: Vec<(u64, Vec<u8>)>,
    next: usize,
    in_flight: HashMap<usize, u64>,
    answered: Vec<(u64, Instant)>,
}

impl NumberedCreates {
    fn new(app: &App, first: u64, count: u64) -> Self {
        let requests = (first..first + count).map(|number| (number, app.create(number, 5)));
        let (in_flight, answered) = (HashMap::new(), Vec::new());
        Self { requests: requests.collect(), next: 0, in_flight, answered }
    }
}

impl Script for NumberedCreates {
    fn request(&mut self, connection: usize, out: &mut Vec<u8>) -> u64 {
        let (number, request) = &self.requests[self.next.min(self.requests.len() - 1)];
        self.next += 1;
        out.extend_from_slice(request);
        self.in_flight.insert(connection, *number);
        *number
    }

    fn answered(&mut self, connection: usize, succeeded: bool) {
        if let Some(number) = self.in_flight.remove(&connection).filter(|_| succeeded) {
            self.answered.push((number, Instant::now()));
        }
    }

    fn verify(&self, number: u64, answer: &Value) -> Result<(), String> {
        let title = crate::app::title(number);
        (answer["title"] == *title).then_some(()).ok_or_else(|| format!("no {title}: {answer}"))
    }
}
