//! Clients that send the next request as soon as the last one is answered, on a thread of their own.
//!
//! The surprise: the thread has a low priority. Real clients have machines of their own, and these
//! should not take the processor from the server and its neighbor.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mio::{Events, Poll};

use super::answers::Answers;
use crate::connection::Connection;

/// How long answers are awaited after the end.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// The priority of the thread: the lowest is 19.
const NICENESS: i32 = 10;

/// The requests of some connections, each repeated without end. A connection takes one list, several
/// connections may share it.
pub type Requests = Arc<Vec<Vec<Vec<u8>>>>;

/// A flood that runs until it is stopped.
pub struct Flood {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Answers>>,
}

impl Flood {
    /// Starts `count` clients.
    ///
    /// # Errors
    /// If no connection can be opened.
    pub fn start(port: u16, count: usize, requests: &Requests) -> anyhow::Result<Self> {
        let mut clients = Clients::connect(port, count, requests.clone())?;
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = is_over.clone();
        let thread = std::thread::spawn(move || {
            // Without permission the clients run at the usual priority.
            let _ = rustix::process::nice(NICENESS);
            clients.run(&stop)?;
            Ok(clients.answers)
        });
        Ok(Self { is_over, thread })
    }

    /// Waits for the requests in flight, and returns all outcomes.
    ///
    /// # Errors
    /// If the clients could not connect again.
    pub fn stop(self) -> anyhow::Result<Answers> {
        self.is_over.store(true, Ordering::Relaxed);
        let Ok(answers) = self.thread.join() else { bail!("the clients ended early") };
        answers
    }
}

struct Clients {
    address: SocketAddr,
    poll: Poll,
    connections: Vec<Connection>,
    /// The number of the next request of each connection.
    next: Vec<usize>,
    requests: Requests,
    answers: Answers,
}

impl Clients {
    fn connect(port: u16, count: usize, requests: Requests) -> anyhow::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let poll = Poll::new()?;
        let connections = (0..count)
            .map(|token| Connection::open(address, poll.registry(), token))
            .collect::<Result<_, _>>()
            .context("cannot connect")?;
        // Connections that share a list begin at different places.
        let next = (0..count).map(|index| index / requests.len().max(1)).collect();
        Ok(Self { address, poll, connections, next, requests, answers: Answers::default() })
    }

    fn run(&mut self, is_over: &AtomicBool) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(256);
        for index in 0..self.connections.len() {
            self.send(index)?;
        }
        let mut stopped_at = None;
        while self.connections.iter().any(|connection| connection.busy) {
            self.poll.poll(&mut events, Some(Duration::from_millis(100)))?;
            let stops = is_over.load(Ordering::Relaxed);
            for event in &events {
                let index = event.token().0;
                if self.connections[index].busy && self.advance(index)? && !stops {
                    self.send(index)?;
                }
            }
            if stops && stopped_at.get_or_insert_with(Instant::now).elapsed() > ANSWER_TIMEOUT {
                let silent = self.connections.iter().filter(|connection| connection.busy).count();
                self.answers.closed += silent as u64;
                break;
            }
        }
        Ok(())
    }

    fn send(&mut self, index: usize) -> anyhow::Result<()> {
        let requests = self.requests.clone();
        let list = &requests[index % requests.len()];
        let request = &list[self.next[index] % list.len()];
        self.next[index] += 1;
        let send = |out: &mut Vec<u8>| {
            out.extend_from_slice(request);
            0
        };
        if self.connections[index].send(send).is_err() {
            self.reconnect(index)?;
            self.connections[index].send(send).context("cannot send")?;
        }
        Ok(())
    }

    /// Returns whether the connection is free again.
    fn advance(&mut self, index: usize) -> anyhow::Result<bool> {
        match self.connections[index].advance() {
            Ok(None) => Ok(false),
            Ok(Some(response)) => {
                self.answers.push(response.status, response.elapsed);
                Ok(true)
            }
            Err(_) => {
                self.reconnect(index)?;
                Ok(true)
            }
        }
    }

    fn reconnect(&mut self, index: usize) -> anyhow::Result<()> {
        self.answers.closed += 1;
        self.connections[index] = Connection::open(self.address, self.poll.registry(), index)
            .context("cannot connect again")?;
        Ok(())
    }
}
