//! The stream of each filter is that part of the whole stream, from every start.

use muster::domain::Permission;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

use super::model::{ACCOUNTS, Filter, History, write};
use super::reader::Reader;
use super::{Caller, append_other_changes, caller, id_of, seq};
use crate::feed::complete_feed;
use crate::harness::{BUIN, TestApp, spawn_app};

/// Writes a random history by two apps on two servers, beside another enterprise. Returns the callers
/// of the two servers, and the ids of the apps.
pub async fn random_history(app: &TestApp, writers: u64) -> (Vec<Caller>, Vec<String>) {
    let (address, shutdown_signal) = app.another_instance().await;
    let permissions = [Permission::SessionsRead, Permission::SessionsWrite];
    let first = caller(app);
    let (client, key) = app.another_app(BUIN, &permissions).await;
    let app_ids = vec![first.client.app_id.clone(), client.app_id.clone()];
    let second = Caller { client: client.at(address), key };
    let (client, key) = app.another_app(BUIN + 1, &permissions).await;
    let foreign = Caller { client, key };
    let shared = vec![first.create(&ACCOUNTS).await, second.create(&ACCOUNTS[2..]).await];
    let foreign_session = vec![foreign.create(&ACCOUNTS).await];
    let mut tasks = Vec::new();
    for number in 0..writers {
        let caller = if number % 2 == 0 { &first } else { &second };
        tasks.push(tokio::spawn(write(caller.clone(), number, shared.clone(), 30)));
    }
    tasks.push(tokio::spawn(write(foreign, 99, foreign_session, 30)));
    for task in tasks {
        task.await.unwrap();
    }
    complete_feed(&app.pool).await;
    // The second server lives as long as the first one.
    std::mem::forget(shutdown_signal);
    (vec![first, second], app_ids)
}

/// The filters of each kind, and some pairs.
pub fn filters(history: &History, apps: &[String]) -> Vec<Filter> {
    let one = |name, value: &str| Filter(vec![(name, value.to_owned())]);
    let mut filters = vec![Filter(vec![]), one("member", "nobody"), one("app", "unknown")];
    for account in ACCOUNTS {
        filters.extend([one("member", account), one("owner", account)]);
    }
    for kind in ["created", "updated", "reverted", "dissolved", "restored"] {
        filters.push(one("kind", kind));
    }
    filters.extend(apps.iter().map(|app| one("app", app)));
    let session = id_of(&history.0[0].event);
    filters.push(one("sessionId", &session));
    filters.push(one("sessionId", "{8AD595F3-73B3-4B56-90AF-F336F9222FC5}"));
    let pairs = [
        [("member", "b"), ("owner", "c")],
        [("member", "d"), ("kind", "updated")],
        [("owner", "a"), ("app", apps[0].as_str())],
        [("kind", "created"), ("app", apps[1].as_str())],
        [("sessionId", session.as_str()), ("member", "e")],
        [("sessionId", session.as_str()), ("kind", "reverted")],
    ];
    for pair in pairs {
        filters.push(Filter(pair.map(|(name, value)| (name, value.to_owned())).to_vec()));
    }
    filters
}

/// The numbers of changes, and of those before them in their stream.
fn chain(events: &[Value]) -> Vec<(i64, i64)> {
    events.iter().map(|event| (seq(event), event["prevSeq"].as_i64().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_filter_selects_its_part_of_the_whole_stream_from_every_start() {
    let app = spawn_app().await;
    let (callers, apps) = random_history(&app, 6).await;
    let whole = Reader::new(&callers[0], "&include=session", "0").rest(50).await;
    let history = History::from_changes(&whole);
    assert!(history.0.len() > 60, "{}", history.0.len());
    let mut rng = StdRng::seed_from_u64(7);
    let filters = filters(&history, &apps);
    // The sources by account are used far from the end of the feed.
    for is_far in [false, true] {
        if is_far {
            append_other_changes(&app).await;
        }
        let mut matched = 0;
        for filter in &filters {
            let expected = history.matching(filter);
            matched += usize::from(!expected.is_empty());
            let limit = rng.random_range(5..20);
            let reader = callers.choose(&mut rng).unwrap();
            let mut found = Reader::new(reader, &filter.query(), "0").rest(limit).await;
            found.retain(|event| seq(event) <= history.0.len() as i64);
            let numbers =
                |events: &[&Value]| -> Vec<i64> { events.iter().map(|event| seq(event)).collect() };
            assert_eq!(
                numbers(&found.iter().collect::<Vec<_>>()),
                numbers(&expected),
                "{filter:?} {is_far}"
            );
            // From the cursor of any change of another stream.
            let step = history.0.choose(&mut rng).unwrap();
            let cursor = step.event["cursor"].as_str().unwrap();
            let mut rest = Reader::new(reader, &filter.query(), cursor).rest(limit).await;
            rest.retain(|event| seq(event) <= history.0.len() as i64);
            let later: Vec<Value> =
                found.iter().filter(|event| seq(event) > seq(&step.event)).cloned().collect();
            assert_eq!(chain(&rest), chain(&later), "{filter:?} after {}", step.event);
        }
        assert!(matched > 18, "{matched}");
    }
}
