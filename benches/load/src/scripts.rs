//! The requests of the connections. Bodies are sealed before the measurement if their content is
//! known by then. All prepared bodies differ.

use serde_json::Value;

use crate::accounts::{self, STRIDE};
use crate::app::{self, App};
use crate::generator::Script;
use crate::seed::Set;

/// Sealed creates that are prepared for each thread. They repeat from the first after the last.
const MOST_CREATES: u64 = 10_000;
/// The approximate number of members in all of them.
const MOST_MEMBERS: u64 = 200_000;

/// Creates sessions.
pub struct Creates {
    count: u64,
    requests: Vec<(u64, Vec<u8>)>,
    next: usize,
}

impl Creates {
    /// Creates of `count` members each.
    pub fn new(app: &App, count: u64) -> Self {
        let number = MOST_CREATES.min(MOST_MEMBERS / count);
        let requests = (0..number)
            .map(|_| accounts::any_first())
            .map(|first| (first, app.create(first, count)))
            .collect();
        Self { count, requests, next: 0 }
    }
}

impl Script for Creates {
    fn request(&mut self, _: usize, out: &mut Vec<u8>) -> u64 {
        let (first, request) = &self.requests[self.next];
        self.next = (self.next + 1) % self.requests.len();
        out.extend_from_slice(request);
        *first
    }

    fn verify(&self, first: u64, answer: &Value) -> Result<(), String> {
        same("title", answer, &app::title(first).into())?;
        same("version", answer, &1.into())?;
        same("member", answer, &accounts::members(first, self.count).into())
    }
}

/// Reads sessions.
pub struct Gets {
    requests: Vec<Vec<u8>>,
    sessions: Vec<(String, u64)>,
    count: u64,
    next: usize,
}

impl Gets {
    /// Reads of `sessions`, given as id and first account, with `count` members.
    pub fn new(app: &App, sessions: Vec<(String, u64)>, count: u64) -> Self {
        let requests = sessions.iter().map(|(id, _)| app.get(id)).collect();
        Self { requests, sessions, count, next: 0 }
    }

    /// Reads of the first `number` sessions of a set, divided among `threads`.
    pub fn of(app: &App, set: &Set, number: u64, threads: usize) -> Vec<Self> {
        shares(number, threads)
            .map(|share| {
                let number = share.end - share.start;
                let visited = (0..number).map(|at| share.start + at * STRIDE % number);
                Self::new(app, visited.map(|n| (set.id(n), accounts::first_of(n))).collect(), 5)
            })
            .collect()
    }
}

impl Script for Gets {
    fn request(&mut self, _: usize, out: &mut Vec<u8>) -> u64 {
        let at = self.next;
        self.next = (at + 1) % self.requests.len();
        out.extend_from_slice(&self.requests[at]);
        at as u64
    }

    fn verify(&self, at: u64, answer: &Value) -> Result<(), String> {
        let (id, first) =
            usize::try_from(at).ok().and_then(|at| self.sessions.get(at)).ok_or("?")?;
        same("sessionId", answer, &format!("{{{id}}}").into())?;
        same("member", answer, &accounts::members(*first, self.count).into())
    }
}

/// Updates sessions: one member in, one out. Each connection has its own sessions, so it knows
/// their members.
pub struct Updates {
    connections: Vec<Walk>,
}

/// The sessions of one connection, and its position.
struct Walk {
    sessions: Vec<Updated>,
    at: usize,
}

/// A session, and its updates.
struct Updated {
    number: u64,
    /// The update that adds the stand-in, and the update that removes it.
    requests: [Vec<u8>; 2],
    changes: usize,
}

impl Updates {
    /// Updates of a whole set, divided among `threads` of `connections` each.
    pub fn of(app: &App, set: &Set, threads: usize, connections: usize) -> Vec<Self> {
        let mut walks = shares(set.count, threads * connections).map(|share| {
            let number = share.end - share.start;
            let visited = (0..number).map(|at| share.start + at * STRIDE % number);
            Walk { sessions: visited.map(|n| Updated::new(app, set, n)).collect(), at: 0 }
        });
        (0..threads)
            .map(|_| Self { connections: walks.by_ref().take(connections).collect() })
            .collect()
    }
}

impl Updated {
    fn new(app: &App, set: &Set, number: u64) -> Self {
        let (id, first) = (set.id(number), accounts::first_of(number));
        let owner = accounts::member(first, 0);
        let (usual, other) = (accounts::member(first, 4), accounts::stand_in(first));
        let requests = [
            app.update(&id, &owner, &other, &[&usual]),
            app.update(&id, &owner, &usual, &[&other]),
        ];
        Self { number, requests, changes: 0 }
    }
}

impl Script for Updates {
    fn request(&mut self, connection: usize, out: &mut Vec<u8>) -> u64 {
        let walk = &self.connections[connection];
        let session = &walk.sessions[walk.at];
        out.extend_from_slice(&session.requests[session.changes % 2]);
        session.number * 2 + session.changes as u64 % 2
    }

    fn answered(&mut self, connection: usize, good: bool) {
        let walk = &mut self.connections[connection];
        walk.sessions[walk.at].changes += usize::from(good);
        walk.at = (walk.at + 1) % walk.sessions.len();
    }

    fn verify(&self, note: u64, answer: &Value) -> Result<(), String> {
        let first = accounts::first_of(note / 2);
        let mut members = accounts::members(first, 5);
        if note.is_multiple_of(2) {
            members[4] = accounts::stand_in(first);
        }
        // An odd change adds the stand-in and makes an even version.
        let version = answer["version"].as_u64().ok_or("no version")?;
        if version % 2 != note % 2 {
            return Err(format!("version {version} after a change of the other kind"));
        }
        same("member", answer, &members.into())
    }
}

/// Updates of one session by all connections. Each update adds a new account and removes the
/// account that the same connection added before. It is sealed when it is sent, because it depends
/// on earlier answers.
pub struct Hot {
    app: App,
    session: String,
    owner: String,
    /// For each connection: the account that is a member, and the next account.
    guests: Vec<(Option<u64>, u64)>,
    /// Distinguishes threads and rounds.
    series: u64,
    made: u64,
}

impl Hot {
    /// Updates of session `n` of a set, by `connections`. `series` differs for each thread.
    pub fn new(app: &App, set: &Set, n: u64, connections: usize, series: u64) -> Self {
        let owner = accounts::member(accounts::first_of(n), 0);
        let guests = vec![(None, 0); connections];
        Self { app: app.clone(), session: set.id(n), owner, guests, series, made: 0 }
    }
}

fn guest(number: u64) -> String {
    format!("guest-{number}")
}

impl Script for Hot {
    fn request(&mut self, connection: usize, out: &mut Vec<u8>) -> u64 {
        self.made += 1;
        let next = self.series * 1_000_000_000 + self.made;
        let (now, coming) = &mut self.guests[connection];
        *coming = next;
        let removed = now.map(guest);
        let removed: Vec<&str> = removed.iter().map(String::as_str).collect();
        out.extend(self.app.update(&self.session, &self.owner, &guest(next), &removed));
        next
    }

    fn answered(&mut self, connection: usize, good: bool) {
        let (now, coming) = &mut self.guests[connection];
        if good {
            *now = Some(*coming);
        }
    }

    fn verify(&self, note: u64, answer: &Value) -> Result<(), String> {
        let members = answer["member"].as_array().ok_or("no members")?;
        match members.iter().any(|member| *member == guest(note)) {
            true => Ok(()),
            false => Err(format!("{} is not in", guest(note))),
        }
    }
}

fn shares(number: u64, among: usize) -> impl Iterator<Item = std::ops::Range<u64>> {
    let among = among as u64;
    (0..among).map(move |share| share * number / among..(share + 1) * number / among)
}

fn same(field: &str, answer: &Value, expected: &Value) -> Result<(), String> {
    match &answer[field] {
        got if got == expected => Ok(()),
        got => Err(format!("{field}: expected {expected}, got {got}")),
    }
}

/// Reads from the bare handler, with the requests of [`Gets`].
pub struct Bare {
    gets: Gets,
    message: Value,
}

impl Bare {
    /// The same requests. Every answer must be `message`.
    pub fn new(gets: Gets, message: Value) -> Self {
        Self { gets, message }
    }
}

impl Script for Bare {
    fn request(&mut self, connection: usize, out: &mut Vec<u8>) -> u64 {
        self.gets.request(connection, out)
    }

    fn verify(&self, _: u64, answer: &Value) -> Result<(), String> {
        match answer == &self.message {
            true => Ok(()),
            false => Err(format!("expected {}, got {answer}", self.message)),
        }
    }
}
