//! The loads of an enterprise with valid keys.

use std::net::Ipv4Addr;
use std::sync::Arc;

use serde_json::json;

use super::answers::Answers;
use super::enterprise::{Enterprise, LARGE};
use super::flood::{Flood, Requests};
use super::held::{Behavior, HeldConnections};

/// The large sessions of the enterprise: as many as a `batch-get` may name.
const LARGE_SESSIONS: usize = 200;
/// The sessions that are changed, one for each client.
const CHANGED_SESSIONS: usize = 32;
/// The accounts of a body of almost 1 MiB.
const ACCOUNTS_OF_1_MIB: usize = 15_000;
/// The bytes of a body that stands still.
const BODY: usize = 1_000_000;
/// The requests that a client sends in advance if it does not read the responses.
const UNREAD: usize = 64;

/// A load: its name, and its description.
pub struct LoadDefinition {
    /// The name.
    pub name: &'static str,
    /// The requests.
    pub description: &'static str,
}

const fn load(name: &'static str, description: &'static str) -> LoadDefinition {
    LoadDefinition { name, description }
}

/// All loads.
pub const ALL: [LoadDefinition; 10] = [
    load(
        "history",
        "versions, differences and events of a session whose 1,900 members came and went",
    ),
    load(
        "title",
        "searches for a title that shares all its pairs of letters with every session, and matches none",
    ),
    load("batch_get", "`batch-get` of 200 sessions of 1,900 members"),
    load("large_list", "lists of 200 sessions of 1,900 members"),
    load("large_get", "reads of such sessions, from memory"),
    load("small_get", "reads of small sessions, from memory"),
    load("create", "creates of sessions of 1,900 members"),
    load("update", "changes that add or remove 1,900 members"),
    load("refused", "creates with a body of almost 1 MiB, refused for their members"),
    load(
        "held",
        "3,000 idle connections, 200 bodies that stand still, 100 clients that do not read",
    ),
];

/// The rows that the loads need in the database.
pub struct LoadData {
    enterprise: Enterprise,
    /// The session with the long history, and the number of its versions.
    long: (String, usize),
    large: Vec<String>,
    small: Vec<String>,
    changed: Vec<String>,
}

/// A load that runs until it is stopped.
pub enum RunningLoad {
    /// Clients that send as fast as they can.
    Flood(Flood),
    /// Clients that never finish.
    Held(Vec<HeldConnections>),
}

impl LoadData {
    /// Creates the sessions. All members of the one with the long history come or go `changes` times.
    ///
    /// # Errors
    /// If the server refuses one.
    pub fn create(enterprise: Enterprise, changes: usize) -> anyhow::Result<Self> {
        let sessions = |title: &str, count: usize, members: usize| {
            (0..count)
                .map(|number| enterprise.session(&format!("{title} {number}"), members))
                .collect::<anyhow::Result<Vec<_>>>()
        };
        let large = sessions("Large", LARGE_SESSIONS, LARGE)?;
        let small = sessions("Small", LARGE_SESSIONS, 4)?;
        let changed = sessions("Changed", CHANGED_SESSIONS, 2)?;
        let long = enterprise.session("Long", LARGE)?;
        for change in 0..changes {
            enterprise.call(&enterprise.change(&long, ["delMember", "addMember"][change % 2]))?;
        }
        Ok(Self { enterprise, long: (long, changes + 1), large, small, changed })
    }

    /// The same data on another server.
    pub fn at(&self, port: u16) -> Self {
        Self {
            enterprise: self.enterprise.at(port),
            long: self.long.clone(),
            large: self.large.clone(),
            small: self.small.clone(),
            changed: self.changed.clone(),
        }
    }

    /// Starts a load with this number of clients.
    ///
    /// # Errors
    /// If the server cannot be reached.
    pub fn start(&self, name: &str, clients: usize) -> anyhow::Result<RunningLoad> {
        let port = self.enterprise.port;
        if name == "held" {
            let groups = self.held_clients().into_iter();
            let groups = groups.map(|behavior| HeldConnections::start(port, behavior));
            return Ok(RunningLoad::Held(groups.collect()));
        }
        Ok(RunningLoad::Flood(Flood::start(port, clients, &self.requests(name))?))
    }

    /// The requests of a load.
    fn requests(&self, name: &str) -> Requests {
        let enterprise = &self.enterprise;
        let get_all = |ids: &[String]| {
            let gets = ids.iter().map(|id| enterprise.get(&format!("/v1/sessions/{id}")));
            vec![gets.collect()]
        };
        let list = |query: &str| vec![vec![enterprise.get(&format!("/v1/sessions?{query}"))]];
        Arc::new(match name {
            "history" => self.history(),
            "title" => list("title=sessessi"),
            "batch_get" => {
                let body = json!({ "ids": self.large }).to_string();
                vec![vec![enterprise.send("POST", "/v1/sessions/batch-get", &body)]]
            }
            "large_list" => list("member=creator&limit=200"),
            "large_get" => get_all(&self.large),
            "small_get" => get_all(&self.small),
            "create" => vec![vec![enterprise.create("Created", LARGE)]],
            "update" => {
                let changes = |id: &String| {
                    ["addMember", "delMember"].map(|field| enterprise.change(id, field)).into()
                };
                self.changed.iter().map(changes).collect()
            }
            _ => vec![vec![enterprise.create("Refused", ACCOUNTS_OF_1_MIB)]],
        })
    }

    fn history(&self) -> Vec<Vec<Vec<u8>>> {
        let (id, versions) = &self.long;
        let path = |rest: String| self.enterprise.get(&format!("/v1/sessions/{id}{rest}"));
        // Each request reads another part of the history.
        let at = |number: usize| 1 + number * 37 % versions;
        let numbers = 0..*versions;
        vec![
            numbers.clone().map(|number| path(format!("?version={}", at(number)))).collect(),
            numbers
                .map(|number| path(format!("/diff?from={}&to={}", at(number), at(number + 7))))
                .collect(),
            vec![
                path("/events?limit=200".to_owned()),
                path("/events?limit=200&order=desc".to_owned()),
            ],
        ]
    }

    /// Groups of clients with a valid key that never finish.
    pub fn held_clients(&self) -> Vec<Behavior> {
        let (id, enterprise) = (&self.large[0], &self.enterprise);
        let idle = Behavior {
            name: "idle connections with a key",
            count: 3_000,
            address: Ipv4Addr::new(127, 0, 0, 2),
            first: enterprise.get(&format!("/v1/sessions/{}", self.small[0])),
            then: None,
            reads: true,
        };
        let half = "x".repeat(BODY);
        let mut body = enterprise.send("POST", "/v1/sessions", &half);
        body.truncate(body.len() - BODY / 2);
        vec![
            idle.clone(),
            Behavior {
                name: "bodies with a key",
                count: 200,
                first: body,
                then: Some(b'x'),
                ..idle.clone()
            },
            Behavior {
                name: "unread responses",
                count: 100,
                first: enterprise.get(&format!("/v1/sessions/{id}")).repeat(UNREAD),
                reads: false,
                ..idle
            },
        ]
    }
}

impl RunningLoad {
    /// Ends the load. Returns its outcomes, and descriptions of clients without outcomes.
    ///
    /// # Errors
    /// If the clients could not connect again.
    pub fn stop(self) -> anyhow::Result<(Answers, Vec<String>)> {
        match self {
            Self::Flood(flood) => Ok((flood.stop()?, Vec::new())),
            Self::Held(groups) => {
                let descriptions = groups.iter().map(HeldConnections::describe).collect();
                groups.into_iter().for_each(HeldConnections::stop);
                Ok((Answers::default(), descriptions))
            }
        }
    }
}
