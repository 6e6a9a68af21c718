//! The requests of the connections. Bodies are sealed before the measurement if their content does
//! not depend on answers. All prepared bodies differ.

use serde_json::Value;

use crate::accounts::{self, VISIT_STRIDE};
use crate::app::{self, App};
use crate::generator::Script;
use crate::seed::Set;

/// Sealed creates that are prepared for each thread. They repeat from the first after the last.
const MAX_CREATES: u64 = 10_000;
/// The approximate number of members in all of them.
const MAX_MEMBERS: u64 = 200_000;

/// Creates sessions.
pub struct Creates {
    count: u64,
    requests: Vec<(u64, Vec<u8>)>,
    next: usize,
}

impl Creates {
    /// Creates of `count` members each.
    pub fn new(app: &App, count: u64) -> Self {
        let number = MAX_CREATES.min(MAX_MEMBERS / count);
        let requests = (0..number)
            .map(|_| accounts::random_first())
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
        expect_field("title", answer, &app::title(first).into())?;
        expect_field("version", answer, &1.into())?;
        expect_field("member", answer, &accounts::members(first, self.count).into())
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
    pub fn for_set(app: &App, set: &Set, number: u64, threads: usize) -> Vec<Self> {
        shares(number, threads)
            .map(|share| {
                let number = share.end - share.start;
                let visited = (0..number).map(|turn| share.start + turn * VISIT_STRIDE % number);
                let sessions = visited.map(|n| (set.id(n), accounts::first_account(n)));
                Self::new(app, sessions.collect(), 5)
            })
            .collect()
    }
}

impl Script for Gets {
    fn request(&mut self, _: usize, out: &mut Vec<u8>) -> u64 {
        let index = self.next;
        self.next = (index + 1) % self.requests.len();
        out.extend_from_slice(&self.requests[index]);
        index as u64
    }

    fn verify(&self, index: u64, answer: &Value) -> Result<(), String> {
        let request = usize::try_from(index).ok().and_then(|index| self.sessions.get(index));
        let (id, first) = request.ok_or("no request of this tag")?;
        expect_field("sessionId", answer, &format!("{{{id}}}").into())?;
        expect_field("member", answer, &accounts::members(*first, self.count).into())
    }
}

/// Updates sessions: one member in, one out. Each connection has its own sessions, so it knows
/// their members.
pub struct Updates {
    connections: Vec<SessionCycle>,
}

/// The sessions of one connection, and its position.
struct SessionCycle {
    sessions: Vec<UpdatedSession>,
    next: usize,
}

/// A session, and its updates.
struct UpdatedSession {
    number: u64,
    /// The update that adds the substitute, and the update that removes it.
    requests: [Vec<u8>; 2],
    changes: usize,
}

impl Updates {
    /// Updates of a whole set, divided among `threads` of `connections` each.
    pub fn for_set(app: &App, set: &Set, threads: usize, connections: usize) -> Vec<Self> {
        let mut cycles = shares(set.count, threads * connections).map(|share| {
            let number = share.end - share.start;
            let visited = (0..number).map(|turn| share.start + turn * VISIT_STRIDE % number);
            let sessions = visited.map(|n| UpdatedSession::new(app, set, n)).collect();
            SessionCycle { sessions, next: 0 }
        });
        (0..threads)
            .map(|_| Self { connections: cycles.by_ref().take(connections).collect() })
            .collect()
    }
}

impl UpdatedSession {
    fn new(app: &App, set: &Set, number: u64) -> Self {
        let (id, first) = (set.id(number), accounts::first_account(number));
        let owner = accounts::member(first, 0);
        let (fifth, substitute) = (accounts::member(first, 4), accounts::substitute(first));
        let requests = [
            app.update(&id, &owner, &substitute, &[&fifth]),
            app.update(&id, &owner, &fifth, &[&substitute]),
        ];
        Self { number, requests, changes: 0 }
    }
}

impl Script for Updates {
    fn request(&mut self, connection: usize, out: &mut Vec<u8>) -> u64 {
        let cycle = &self.connections[connection];
        let session = &cycle.sessions[cycle.next];
        out.extend_from_slice(&session.requests[session.changes % 2]);
        session.number * 2 + session.changes as u64 % 2
    }

    fn answered(&mut self, connection: usize, succeeded: bool) {
        let cycle = &mut self.connections[connection];
        cycle.sessions[cycle.next].changes += usize::from(succeeded);
        cycle.next = (cycle.next + 1) % cycle.sessions.len();
    }

    fn verify(&self, tag: u64, answer: &Value) -> Result<(), String> {
        let first = accounts::first_account(tag / 2);
        let mut members = accounts::members(first, 5);
        if tag.is_multiple_of(2) {
            members[4] = accounts::substitute(first);
        }
        // An odd change adds the substitute and makes an even version.
        let version = answer["version"].as_u64().ok_or("no version")?;
        if version % 2 != tag % 2 {
            return Err(format!("version {version} after a change of the other parity"));
        }
        expect_field("member", answer, &members.into())
    }
}

/// Updates of one session by all connections. Each update adds a new account and removes the
/// account that the same connection added before. It is sealed when it is sent, because it depends
/// on earlier answers.
pub struct HotSessionUpdates {
    app: App,
    session: String,
    owner: String,
    /// For each connection: the account that is a member, and the next account.
    guests: Vec<(Option<u64>, u64)>,
    /// Distinguishes threads and rounds.
    series: u64,
    made: u64,
}

impl HotSessionUpdates {
    /// Updates of session `n` of a set, by `connections`. `series` differs for each thread.
    pub fn new(app: &App, set: &Set, n: u64, connections: usize, series: u64) -> Self {
        let owner = accounts::member(accounts::first_account(n), 0);
        let guests = vec![(None, 0); connections];
        Self { app: app.clone(), session: set.id(n), owner, guests, series, made: 0 }
    }
}

fn guest(number: u64) -> String {
    format!("guest-{number}")
}

impl Script for HotSessionUpdates {
    fn request(&mut self, connection: usize, out: &mut Vec<u8>) -> u64 {
        self.made += 1;
        let number = self.series * 1_000_000_000 + self.made;
        let (current, next) = &mut self.guests[connection];
        *next = number;
        let removed = current.map(guest);
        let removed: Vec<&str> = removed.iter().map(String::as_str).collect();
        out.extend(self.app.update(&self.session, &self.owner, &guest(number), &removed));
        number
    }

    fn answered(&mut self, connection: usize, succeeded: bool) {
        let (current, next) = &mut self.guests[connection];
        if succeeded {
            *current = Some(*next);
        }
    }

    fn verify(&self, tag: u64, answer: &Value) -> Result<(), String> {
        let members = answer["member"].as_array().ok_or("no members")?;
        match members.iter().any(|member| *member == guest(tag)) {
            true => Ok(()),
            false => Err(format!("{} is not a member", guest(tag))),
        }
    }
}

fn shares(number: u64, parts: usize) -> impl Iterator<Item = std::ops::Range<u64>> {
    let parts = parts as u64;
    (0..parts).map(move |part| part * number / parts..(part + 1) * number / parts)
}

fn expect_field(field: &str, answer: &Value, expected: &Value) -> Result<(), String> {
    match &answer[field] {
        actual if actual == expected => Ok(()),
        actual => Err(format!("{field}: expected {expected}, got {actual}")),
    }
}

/// Reads from the bare handler, with the requests of [`Gets`].
pub struct BareReads {
    gets: Gets,
    message: Value,
}

impl BareReads {
    /// The same requests. Every answer must be `message`.
    pub fn new(gets: Gets, message: Value) -> Self {
        Self { gets, message }
    }
}

impl Script for BareReads {
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
