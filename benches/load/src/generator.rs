//! The load: kept connections with one request at a time on each, and two threads that wait only
//! for answers.
//!
//! The status and the `errcode` of every answer are checked. Of one in [`SAMPLED`] answers, the
//! envelope is opened and the session compared after the end of the measurement. No request is sent
//! after the end, but requests in flight are awaited, so the number of acknowledged changes is
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

/// One in this many answers is opened.
const SAMPLED: u64 = 101;
/// The maximum for each thread, to limit memory.
const MOST_SAMPLES: usize = 500;
/// How long answers are awaited after the end.
const PATIENCE: Duration = Duration::from_secs(20);
/// The beginning of an answer without an error.
const GOOD: &[u8] = b"{\"errcode\":0,";

/// The requests of one thread.
pub trait Script: Send {
    /// Puts the next request of a connection into `out`, and returns a note for its answer.
    fn request(&mut self, connection: usize, out: &mut Vec<u8>) -> u64;

    /// Receives the outcome of the request in flight.
    fn answered(&mut self, _connection: usize, _good: bool) {}

    /// Compares an opened answer with the note.
    ///
    /// # Errors
    /// The difference.
    fn verify(&self, note: u64, answer: &Value) -> Result<(), String>;
}

/// The result of a run.
#[derive(Debug, Default)]
pub struct Seen {
    /// Good answers within the time, per second. A request in flight at the end counts in part.
    pub rate: f64,
    /// All good answers, including those after the end.
    pub acknowledged: u64,
    /// The number of all other outcomes.
    pub failed: u64,
    /// The texts of the first failures.
    pub failures: Vec<String>,
    /// The latencies of all good answers.
    pub latencies: Latencies,
    /// Bytes on the wire for each good answer: request and answer with their heads.
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
) -> anyhow::Result<Seen> {
    let start = Barrier::new(scripts.len());
    // Connects before any thread starts, because a failed thread would leave the others waiting.
    let ready: Vec<_> = scripts
        .iter_mut()
        .map(|script| Thread::open(port, script, connections))
        .collect::<Result<_, _>>()?;
    let threads = std::thread::scope(|scope| {
        let start = &start;
        let running: Vec<_> = ready
            .into_iter()
            .map(|connected| scope.spawn(move || connected.run(start, time)))
            .collect();
        running.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
    });
    let mut seen = Seen::default();
    let (mut within, mut bytes) = (0.0, 0_u64);
    for (thread, script) in threads.into_iter().zip(scripts.iter()) {
        let Ok(thread) = thread else { bail!("a thread of the load ended early") };
        let mut thread = thread?;
        for (note, body) in std::mem::take(&mut thread.samples) {
            match open(envelope, &body).and_then(|answer| script.verify(note, &answer)) {
                Ok(()) => seen.opened += 1,
                Err(error) => thread.fail(format!("opened: {error}")),
            }
        }
        within += thread.within;
        bytes += thread.bytes;
        seen.acknowledged += thread.acknowledged;
        seen.failed += thread.failed;
        seen.failures.extend(thread.failures);
        seen.latencies.extend(thread.latencies);
    }
    seen.rate = within / time.as_secs_f64();
    seen.bytes = float(bytes) / float(seen.acknowledged.max(1));
    Ok(seen)
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

/// The state of one thread.
#[derive(Default)]
struct Thread {
    /// Requests completed in the time. A request that ended later counts in part.
    within: f64,
    acknowledged: u64,
    failed: u64,
    failures: Vec<String>,
    latencies: Latencies,
    bytes: u64,
    samples: Vec<(u64, Vec<u8>)>,
}

/// A connected thread.
struct Connected<'a, S> {
    address: SocketAddr,
    poll: Poll,
    connections: Vec<Connection>,
    script: &'a mut S,
    thread: Thread,
}

impl Thread {
    fn open<S: Script>(
        port: u16,
        script: &mut S,
        connections: usize,
    ) -> anyhow::Result<Connected<'_, S>> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let poll = Poll::new()?;
        let connections = (0..connections)
            .map(|token| Connection::open(address, poll.registry(), token))
            .collect::<Result<_, _>>()
            .context("cannot connect")?;
        Ok(Connected { address, poll, connections, script, thread: Self::default() })
    }

    fn fail(&mut self, error: String) {
        self.failed += 1;
        if self.failures.len() < 3 {
            self.failures.push(error);
        }
    }
}

impl<S: Script> Connected<'_, S> {
    fn run(mut self, start: &Barrier, time: Duration) -> anyhow::Result<Thread> {
        let mut events = Events::with_capacity(256);
        start.wait();
        let end = Instant::now() + time;
        for at in 0..self.connections.len() {
            self.send(at)?;
        }
        while self.connections.iter().any(|connection| connection.busy) {
            self.poll.poll(&mut events, Some(Duration::from_millis(100)))?;
            for event in &events {
                let at = event.token().0;
                if self.connections[at].busy && self.go_on(at, end)? && Instant::now() < end {
                    self.send(at)?;
                }
            }
            if Instant::now() > end + PATIENCE {
                let silent = self.connections.iter().filter(|connection| connection.busy).count();
                (0..silent).for_each(|_| self.thread.fail("no answer".to_owned()));
                break;
            }
        }
        Ok(self.thread)
    }

    fn send(&mut self, at: usize) -> anyhow::Result<()> {
        let Self { connections, script, .. } = self;
        connections[at].send(|out| script.request(at, out)).context("cannot send")
    }

    /// Returns whether the connection is free again.
    fn go_on(&mut self, at: usize, end: Instant) -> anyhow::Result<bool> {
        let Self { connections, script, thread, .. } = self;
        let connection = &mut connections[at];
        let note = connection.note;
        match connection.go_on() {
            Ok(None) => return Ok(false),
            Ok(Some(answer)) => {
                let good = answer.ok && answer.body.starts_with(GOOD);
                script.answered(at, good);
                if good {
                    thread.acknowledged += 1;
                    thread.bytes += answer.bytes as u64;
                    // Includes the last request, which ends later. Without it slow requests would
                    // be left out.
                    thread.latencies.push(answer.elapsed);
                    let late = Instant::now().saturating_duration_since(end);
                    thread.within += 1.0 - late.div_duration_f64(answer.elapsed).min(1.0);
                    if thread.acknowledged % SAMPLED == 1 && thread.samples.len() < MOST_SAMPLES {
                        thread.samples.push((note, answer.body.to_vec()));
                    }
                } else {
                    thread.fail(String::from_utf8_lossy(answer.body).chars().take(200).collect());
                }
            }
            Err(error) => {
                script.answered(at, false);
                thread.fail(format!("connection: {error}"));
                *connection = Connection::open(self.address, self.poll.registry(), at)
                    .context("cannot connect again")?;
            }
        }
        Ok(true)
    }
}

/// Sends one request and opens its answer.
///
/// # Errors
/// If there is no good answer.
pub fn ask(port: u16, envelope: &Envelope, request: &[u8]) -> anyhow::Result<Value> {
    let body = http::call(port, request)?;
    open(envelope, &body)
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("not a good answer: {}", String::from_utf8_lossy(&body)))
}
