//! The load: kept connections, one request at a time on each, two threads that never wait for
//! anything but answers.
//!
//! Every answer's status and `errcode` are looked at; of one in [`SAMPLED`] the envelope is opened
//! and compared, after the time is up. After that no request is sent, but those under way are
//! waited for: what was acknowledged is known exactly.

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

/// One answer in this many is opened.
const SAMPLED: u64 = 101;
/// But no more than this many for each thread, to keep memory small.
const MOST_SAMPLES: usize = 500;
/// How long answers are waited for after the time is up.
const PATIENCE: Duration = Duration::from_secs(20);
/// How an answer begins that reports no error.
const GOOD: &[u8] = b"{\"errcode\":0,";

/// What one thread asks.
pub trait Script: Send {
    /// Puts the next request of a connection into `out`, and gives what to remember of it.
    fn request(&mut self, connection: usize, out: &mut Vec<u8>) -> u64;

    /// Hears what became of it.
    fn answered(&mut self, _connection: usize, _good: bool) {}

    /// Compares an opened answer with what was remembered.
    ///
    /// # Errors
    /// What is wrong with it.
    fn verify(&self, note: u64, answer: &Value) -> Result<(), String>;
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Good answers within the time, for each second; of what is under way at its end, a part.
    pub rate: f64,
    /// Good answers in all, those after the time included.
    pub acknowledged: u64,
    /// Everything else, the first ones in words.
    pub failed: u64,
    /// The first few failures.
    pub failures: Vec<String>,
    /// Of all good answers.
    pub latencies: Latencies,
    /// Bytes on the wire for each good answer, request and answer with their heads.
    pub bytes: f64,
    /// How many answers were opened and compared.
    pub opened: usize,
}

/// Asks for `time`, each script on a thread of its own with as many connections.
///
/// # Errors
/// When nothing can be connected to.
pub fn load<S: Script>(
    port: u16,
    envelope: &Envelope,
    scripts: &mut [S],
    connections: usize,
    time: Duration,
) -> anyhow::Result<Seen> {
    let start = Barrier::new(scripts.len());
    // Connected before any of them begins: who cannot connect must not leave the others waiting.
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
/// What is wrong with it.
pub fn open(envelope: &Envelope, body: &[u8]) -> Result<Value, String> {
    let outer: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let sealed = outer["encrypt"].as_str().ok_or("no envelope")?;
    let message = envelope.open(sealed).map_err(|error| error.to_string())?;
    serde_json::from_str(&message).map_err(|error| error.to_string())
}

/// Counts are far below what a float holds exactly.
#[expect(clippy::cast_precision_loss, reason = "counts of one run")]
pub fn float(count: u64) -> f64 {
    count as f64
}

/// What one thread knows, while it runs and after.
#[derive(Default)]
struct Thread {
    /// How many requests were done in the time; of one that ended after it, the part before.
    within: f64,
    acknowledged: u64,
    failed: u64,
    failures: Vec<String>,
    latencies: Latencies,
    bytes: u64,
    samples: Vec<(u64, Vec<u8>)>,
}

/// A thread that is connected.
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

    /// Gives whether the connection is free again.
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
                    // The last one, too, which ends later: to leave out what takes long would flatter.
                    thread.latencies.push(answer.took);
                    let late = Instant::now().saturating_duration_since(end);
                    thread.within += 1.0 - late.div_duration_f64(answer.took).min(1.0);
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

/// Asks one request and opens the answer.
///
/// # Errors
/// When there is no good answer.
pub fn ask(port: u16, envelope: &Envelope, request: &[u8]) -> anyhow::Result<Value> {
    let body = http::call(port, request)?;
    open(envelope, &body)
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("not a good answer: {}", String::from_utf8_lossy(&body)))
}
