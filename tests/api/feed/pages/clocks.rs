//! Two servers whose clocks are 20 seconds apart: no reader loses a change.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use muster::clock::Clock;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::Method;
use serde_json::Value;

use super::model::{ACCOUNTS, History, ModelSession, Table, write};
use super::reader::Reader;
use super::{Caller, caller, events, id_of, seq};
use crate::faults::seed;
use crate::feed::complete_feed;
use crate::harness::spawn_app_with_clock;

const ORDERS: [&str; 4] = ["createdAt", "-createdAt", "updatedAt", "-updatedAt"];

async fn get(caller: &Caller, path: &str) -> Value {
    crate::v1::result(caller.send(Method::GET, path, &Value::Null).await).await
}

/// All items of a list, whose pages come from the two servers in turn, and its `completeUntil`.
async fn list(servers: &[Caller; 2], query: &str) -> (Vec<Value>, String) {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    for number in 0.. {
        let path = format!("/v1/sessions?limit=7{query}{cursor}");
        let page = get(&servers[number % 2], &path).await;
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            // A list by creation without `updatedSince` has none.
            None => {
                return (items, page["completeUntil"].as_str().unwrap_or_default().to_owned());
            }
        }
    }
    unreachable!()
}

fn table(items: &[Value]) -> Table {
    items.iter().map(|item| (id_of(item), ModelSession::from_json(item))).collect()
}

/// Follows the lists and the feed of both servers until the writers end.
struct Followers {
    servers: [Caller; 2],
    /// The newest version that a list by time has shown of each session.
    polled: BTreeMap<String, i64>,
    since: String,
    reader: Reader,
    read: Vec<Value>,
}

impl Followers {
    async fn read(&mut self, number: usize) {
        let order = ORDERS[number % ORDERS.len()];
        let query = format!("&updatedSince={}&sort={order}", self.since);
        let (items, complete_until) = list(&self.servers, &query).await;
        assert!(complete_until >= self.since, "{complete_until} {}", self.since);
        for item in items {
            let version = item["version"].as_i64().unwrap();
            let known = self.polled.entry(id_of(&item)).or_default();
            *known = version.max(*known);
        }
        self.since = complete_until;
        self.reader.caller = self.servers[number % 2].clone();
        let page = self.reader.page(9).await;
        self.read.extend(events(&page).iter().cloned());
    }
}

/// A read at a time shows the same on both servers and whenever it is asked: the last version that is
/// not later.
async fn check_times(servers: &[Caller; 2], history: &History, rng: &mut StdRng) {
    for _ in 0..40 {
        let at = history.0.choose(rng).unwrap().event["at"].as_str().unwrap().to_owned();
        let step = history.0.choose(rng).unwrap();
        let of_session = history.0.iter().filter(|other| id_of(&other.event) == id_of(&step.event));
        let before = of_session.filter(|other| other.event["at"].as_str().unwrap() <= at.as_str());
        let expected = before.map(|step| &step.after).max_by_key(|session| session.version);
        let path = format!("/v1/sessions/{}?at={at}", id_of(&step.event));
        for server in [0, 1, 0] {
            let response = servers[server].send(Method::GET, &path, &Value::Null).await;
            match expected {
                Some(expected) => {
                    let found = ModelSession::from_json(&crate::v1::result(response).await);
                    assert_eq!(found, *expected, "{path}");
                }
                None => assert_eq!(response.status(), 404, "{path}"),
            }
        }
    }
}

/// A feed from a time has every change that is later.
async fn check_feed_from_times(servers: &[Caller; 2], history: &History, rng: &mut StdRng) {
    for _ in 0..20 {
        let at = history.0.choose(rng).unwrap().event["at"].as_str().unwrap();
        let server = &servers[rng.random_range(0..2)];
        let found = Reader::new(server, "", at).rest(50).await;
        let found: Vec<i64> = found.iter().map(seq).collect();
        for step in &history.0 {
            let is_later = step.event["at"].as_str().unwrap() > at;
            assert!(!is_later || found.contains(&seq(&step.event)), "{at} {}", step.event);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_with_clocks_20_seconds_apart_lose_no_change() {
    let clock = |seconds| Clock::wrong_by(TimeDelta::seconds(seconds));
    let app = spawn_app_with_clock(clock(-10)).await;
    let (address, _shutdown_signal) = app.another_instance_with_clock(clock(10)).await;
    let first = caller(&app);
    let second = Caller { client: first.client.at(address), ..first.clone() };
    let servers = [first.clone(), second];
    let shared = vec![first.create(&ACCOUNTS).await, first.create(&ACCOUNTS[2..]).await];
    let seed = seed();
    let writers: Vec<_> = (0..6_usize)
        .map(|number| {
            let caller = servers[number % 2].clone();
            let seed = seed.wrapping_add(number as u64);
            tokio::spawn(write(caller, seed, shared.clone(), 25))
        })
        .collect();
    let reader = Reader::new(&first, "&include=session", "0");
    let since = "2000-01-01T00:00:00Z".to_owned();
    let (polled, read) = (BTreeMap::new(), Vec::new());
    let mut followers = Followers { servers: servers.clone(), polled, since, reader, read };
    for number in 0.. {
        let is_over = writers.iter().all(tokio::task::JoinHandle::is_finished);
        followers.read(number).await;
        if is_over {
            break;
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let rows = complete_feed(&app.pool).await;
    let Followers { polled, mut reader, mut read, .. } = followers;
    read.extend(reader.rest(50).await);
    assert_eq!(read.len(), rows.len(), "seed {seed}");
    let history = History::from_changes(&read);
    let present = history.table_at(rows.len() as i64);
    let versions: BTreeMap<String, i64> =
        present.iter().map(|(id, session)| (id.clone(), session.version)).collect();
    assert_eq!(polled, versions, "seed {seed}");
    for order in ORDERS {
        for servers in [servers.clone(), [servers[1].clone(), servers[0].clone()]] {
            let (items, _) = list(&servers, &format!("&sort={order}")).await;
            assert_eq!(table(&items), present, "{order}, seed {seed}");
        }
    }
    let mut rng = StdRng::seed_from_u64(seed);
    check_times(&servers, &history, &mut rng).await;
    check_feed_from_times(&servers, &history, &mut rng).await;
}
