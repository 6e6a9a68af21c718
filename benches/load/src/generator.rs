//! The load: kept connections with one request at a time on each, and two threads that wait only
//! for answers.
//!
//! The status and the `errcode` of every answer are checked. Of one in [`SAMPLE_INTERVAL`] answers,
//! the envelope is opened and the session compared after the end of the measurement. No request is
//! sent after the end, but requests in flight are awaited, so the number of acknowledged changes is
//! exact.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mio::{Events, Poll};
use muster::wire::Envelope;
use serde_json::Value;

use crate::connection::Connection;
use crate::http;
use crate::latency::Latencies;
use crate::pace;
use crate::pace::Pace;

/// One in this many answers is opened.
const SAMPLE_INTERVAL: u64 = 101;
/// The maximum for each thread, to limit memory.
const MAX_SAMPLES: usize = 500;
/// How long answers are awaited after the end.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// The beginning of an answer without an error.
const SUCCESS_PREFIX: &[u8] = b"{\"errcode\":0,";

/// The requests of one thread.
pub trait Script: Send {
    /// Puts the next request of a connection into `out`. Returns a tag that identifies the request
    /// when its answer is verified.
    fn request(&mut self, connection: usize, out: &mut Vec<u8>) -> u64;

    /// Receives the outcome of the request in flight.
    fn answered(&mut self, _connection: usize, _succeeded: bool) {}

    /// Compares an opened answer with the request of this tag.
    ///
    /// # Errors
    /// The difference.
    fn verify(&self, tag: u64, answer: &Value) -> Result<(), String>;
}

/// The result of a run.
#[derive(Debug, Default)]
pub struct LoadResult {
    /// Successful answers within the time, per second. A request in flight at the end counts in
    /// part.
    pub rate: f64,
    /// All successful answers, including those after the end.
    pub acknowledged: u64,
    /// The number of all other outcomes.
    pub failed: u64,
    /// The texts of the first failures.
    pub failures: Vec<String>,
    /// The latencies of all successful answers.
    pub latencies: Latencies,
    /// Bytes on the wire for each successful answer: request and answer with their header sections.
    pub bytes: f64,
    /// The number of opened and compared answers.
    pub opened: usize,
}

/// Sends requests for `time`, each script on its own thread with the same number of connections.
///
/// # Errors
/// If no connection can be opened.
pub fn load<S: Script>(
    port: u16,
    envelope: &Envelope,
    scripts: &mut [S],
    connections: usize,
    time: Duration,
) -> anyhow::Result<LoadResult> {
    load_at_rate(port, envelope, scripts, connections, time, f64::INFINITY)
}

/// The same with at most `rate` requests in a second. A request waits for a free connection, and late
/// requests follow without a pause.
///
/// # Errors
/// If no connection can be opened.
pub fn load_at_rate<S: Script>(
    port: u16,
    envelope: &Envelope,
    scripts: &mut [S],
    connections: usize,
    time: Duration,
    rate: f64,
) -> anyhow::Result<LoadResult> {
    let interval = Duration::from_secs_f64(float(scripts.len() as u64) / rate);
    let start = Barrier::new(scripts.len());
    // Connects before any thread starts, because a failed thread would leave the others waiting.
    let connected: Vec<_> = scripts
        .iter_mut()
        .map(|script| LoadThread::connect(port, script, connections))
        .collect::<Result<_, _>>()?;
    let outcomes = std::thread::scope(|scope| {
        let start = &start;
        let running: Vec<_> = connected
            .into_iter()
            .map(|thread| scope.spawn(move || thread.run(start, time, interval)))
            .collect();
        running.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
    });
    let mut result = LoadResult::default();
    let (mut completed, mut bytes) = (0.0, 0_u64);
    for (outcome, script) in outcomes.into_iter().zip(scripts.iter()) {
        let Ok(outcome) = outcome else { bail!("a thread of the load ended early") };
        let mut counts = outcome?;
        for (tag, body) in std::mem::take(&mut counts.samples) {
            match open(envelope, &body).and_then(|answer| script.verify(tag, &answer)) {
                Ok(()) => result.opened += 1,
                Err(error) => counts.add_failure(format!("opened: {error}")),
            }
        }
        completed += counts.completed;
        bytes += counts.bytes;
        result.acknowledged += counts.acknowledged;
        result.failed += counts.failed;
        result.failures.extend(counts.failures);
        result.latencies.extend(counts.latencies);
    }
    result.rate = completed / time.as_secs_f64();
    result.bytes = float(bytes) / float(result.acknowledged.max(1));
    Ok(result)
}

/// Opens an answer's envelope.
///
/// # Errors
/// The fault of the envelope.
pub fn open(envelope: &Envelope, body: &[u8]) -> Result<Value, String> {
    let outer: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let sealed = outer["encrypt"].as_str().ok_or("no envelope")?;
    let opened = envelope.open_outgoing(sealed);
    let message = opened.text().map_err(|error| error.to_string())?;
    serde_json::from_str(message).map_err(|error| error.to_string())
}

/// The counts are far below the limit of exact floats.
#[expect(clippy::cast_precision_loss, reason = "counts of one run")]
pub fn float(count: u64) -> f64 {
    count as f64
}

/// The outcomes of the requests of one thread.
#[derive(Default)]
struct ThreadCounts {
    /// Requests completed in the time. A request that ended later counts in part.
    completed: f64,
    acknowledged: u64,
    failed: u64,
    failures: Vec<String>,
    latencies: Latencies,
    bytes: u64,
    /// Tags and bodies of answers that are opened after the end.
    samples: Vec<(u64, Vec<u8>)>,
}

impl ThreadCounts {
    fn add_failure(&mut self, error: String) {
        self.failed += 1;
        if self.failures.len() < 3 {
            self.failures.push(error);
        }
    }
}

/// A thread of the load, with its open connections.
struct LoadThread<'a, S> {
    address: SocketAddr,
    poll: Poll,
    connections: Vec<Connection>,
    script: &'a mut S,
    counts: ThreadCounts,
}

impl<'a, S: Script> LoadThread<'a, S> {
    fn connect(port: u16, script: &'a mut S, connections: usize) -> anyhow::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let poll = Poll::new()?;
        let connections = (0..connections)
            .map(|token| Connection::open(address, poll.registry(), token))
            .collect::<Result<_, _>>()
            .context("cannot connect")?;
        Ok(Self { address, poll, connections, script, counts: ThreadCounts::default() })
    }

    fn run(
        mut self,
        start: &Barrier,
        time: Duration,
        interval: Duration,
    ) -> anyhow::Result<ThreadCounts> {
        let mut events = Events::with_capacity(256);
        let mut free: Vec<usize> = (0..self.connections.len()).rev().collect();
        start.wait();
        let mut pace = Pace::start(interval, time);
        self.send_due(&mut pace, &mut free)?;
        while !pace.is_over() || free.len() < self.connections.len() {
            let wait = if free.is_empty() { pace::MAX_WAIT } else { pace.wait() };
            self.poll.poll(&mut events, Some(wait))?;
            for event in &events {
                let index = event.token().0;
                if self.connections[index].busy && self.advance(index, pace.end)? {
                    free.push(index);
                    self.send_due(&mut pace, &mut free)?;
                }
            }
            self.send_due(&mut pace, &mut free)?;
            if Instant::now() > pace.end + ANSWER_TIMEOUT {
                let silent = self.connections.iter().filter(|connection| connection.busy).count();
                (0..silent).for_each(|_| self.counts.add_failure("no answer".to_owned()));
                break;
            }
        }
        Ok(self.counts)
    }

    /// Sends the requests that are due, as far as connections are free.
    fn send_due(&mut self, pace: &mut Pace, free: &mut Vec<usize>) -> anyhow::Result<()> {
        while pace.is_due()
            && let Some(index) = free.pop()
        {
            self.send(index)?;
            pace.advance();
        }
        Ok(())
    }

    fn send(&mut self, index: usize) -> anyhow::Result<()> {
        let Self { connections, script, .. } = self;
        connections[index].send(|out| script.request(index, out)).context("cannot send")
    }

    /// Returns whether the connection is free again.
    fn advance(&mut self, index: usize, end: Instant) -> anyhow::Result<bool> {
        let Self { connections, script, counts, .. } = self;
        let connection = &mut connections[index];
        let tag = connection.tag;
        match connection.advance() {
            Ok(None) => return Ok(false),
            Ok(Some(response)) => {
                let succeeded = response.status == 200 && response.body.starts_with(SUCCESS_PREFIX);
                script.answered(index, succeeded);
                if succeeded {
                    counts.acknowledged += 1;
                    counts.bytes += response.bytes as u64;
                    // Includes the last request, which ends later. Without it slow requests would
                    // be left out.
                    counts.latencies.push(response.elapsed);
                    let late = Instant::now().saturating_duration_since(end);
                    counts.completed += 1.0 - late.div_duration_f64(response.elapsed).min(1.0);
                    if counts.acknowledged % SAMPLE_INTERVAL == 1
                        && counts.samples.len() < MAX_SAMPLES
                    {
                        counts.samples.push((tag, response.body.to_vec()));
                    }
                } else {
                    let text = String::from_utf8_lossy(response.body);
                    counts.add_failure(text.chars().take(200).collect());
                }
            }
            Err(error) => {
                script.answered(index, false);
                counts.add_failure(format!("connection: {error}"));
                *connection = Connection::open(self.address, self.poll.registry(), index)
                    .context("cannot connect again")?;
            }
        }
        Ok(true)
    }
}

/// Sends one request and opens its answer.
///
/// # Errors
/// If no successful answer comes.
pub fn call(port: u16, envelope: &Envelope, request: &[u8]) -> anyhow::Result<Value> {
    let body = http::call(port, request)?;
    open(envelope, &body)
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("not a successful answer: {}", String::from_utf8_lossy(&body)))
}
