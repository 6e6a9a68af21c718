//! The neighbor: an enterprise with small sessions, which reads and lists them at leisure.
//!
//! It sends one request at a time, and pauses between two. So its latency is that of the service, and
//! not of a queue of its own.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::answers::Answers;
use super::enterprise::Enterprise;
use crate::http;

/// The sessions of the neighbor.
const SESSIONS: usize = 100;
/// Its connections. The server spreads them over its threads.
const CONNECTIONS: usize = 4;
/// The pause between two requests.
const PAUSE: Duration = Duration::from_millis(2);

/// The neighbor.
pub struct Probe {
    enterprise: Enterprise,
    connections: Vec<TcpStream>,
    gets: Vec<Vec<u8>>,
    lists: Vec<Vec<u8>>,
    next: usize,
}

/// The responses that the neighbor got.
#[derive(Clone, Debug, Default)]
pub struct ProbeAnswers {
    /// Reads of single sessions, which are in memory.
    pub gets: Answers,
    /// Lists, which the database answers.
    pub lists: Answers,
}

impl ProbeAnswers {
    /// Adds other outcomes.
    pub fn extend(&mut self, others: Self) {
        self.gets.extend(others.gets);
        self.lists.extend(others.lists);
    }
}

impl Probe {
    /// Creates the sessions of the neighbor.
    ///
    /// # Errors
    /// If the server refuses one.
    pub fn new(enterprise: Enterprise) -> anyhow::Result<Self> {
        let mut gets = Vec::new();
        for number in 0..SESSIONS {
            let id = enterprise.session(&format!("Neighbor {number}"), 4)?;
            gets.push(enterprise.get(&format!("/v1/sessions/{id}")));
        }
        let lists = ["", "?member=creator", "?limit=20&sort=-updatedAt", "?title=Neighbor%2099"];
        let lists = lists.map(|query| enterprise.get(&format!("/v1/sessions{query}"))).into();
        Ok(Self { enterprise, connections: Vec::new(), gets, lists, next: 0 })
    }

    /// The same neighbor on another server.
    pub fn at(self, port: u16) -> Self {
        Self { enterprise: self.enterprise.at(port), ..self }
    }

    /// Reads and lists for `time`.
    ///
    /// # Errors
    /// If the server cannot be reached.
    pub fn measure(&mut self, time: Duration) -> anyhow::Result<ProbeAnswers> {
        // A connection that was idle for long has been closed by the server.
        let port = self.enterprise.port;
        self.connections =
            (0..CONNECTIONS).map(|_| http::connect(port)).collect::<Result<_, _>>()?;
        let (mut answers, end) = (ProbeAnswers::default(), Instant::now() + time);
        while Instant::now() < end {
            self.next += 1;
            let number = self.next / 2;
            let (requests, answers) = match self.next % 2 {
                0 => (&self.gets, &mut answers.gets),
                _ => (&self.lists, &mut answers.lists),
            };
            let connection = &mut self.connections[self.next / 3 % CONNECTIONS];
            let sent_at = Instant::now();
            match http::exchange(connection, &requests[number % requests.len()]) {
                Ok((status, _)) => answers.push(status, sent_at.elapsed()),
                Err(_) => {
                    answers.closed += 1;
                    *connection = http::connect(self.enterprise.port)?;
                }
            }
            std::thread::sleep(PAUSE);
        }
        Ok(answers)
    }
}
