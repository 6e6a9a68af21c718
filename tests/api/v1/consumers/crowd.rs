//! Many members at once, some of which die: each event is done, and each session in its order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use reqwest::Method;
use serde_json::{Value, json};

use super::{consumer_from_beginning, post_to, status};
use crate::harness::{TestApp, spawn_app, store, wait_until_within};
use crate::v1::{create_session, result, send};

const SESSIONS: usize = 12;
const VERSIONS: i64 = 12;
const MEMBERS: usize = 6;

/// The last version of each session that was done.
type Done = Arc<Mutex<BTreeMap<String, i64>>>;

/// A member does its events in order. It acknowledges some, and forgets the others, as if it had died.
async fn work(app: &TestApp, address: SocketAddr, member: String, done: &Done) {
    let mut random = fastrand_seed(&member);
    loop {
        let body = json!({ "member": member, "max": 1 + random() % 7 });
        let fetched = result(post_to(app, address, "fetch", &body).await).await;
        let events = fetched["events"].as_array().unwrap().clone();
        let dies = random().is_multiple_of(4);
        let end = if dies { random() % (events.len() + 1) } else { events.len() };
        for event in &events[..end] {
            record(done, event);
        }
        let cursors: Vec<&Value> = events[..end].iter().map(|event| &event["cursor"]).collect();
        let body = json!({ "member": member, "cursors": cursors });
        result(post_to(app, address, "ack", &body).await).await;
        tokio::task::yield_now().await;
    }
}

/// Records that an event was done. Every earlier version must have been done before.
fn record(done: &Done, event: &Value) {
    let mut done = done.lock().unwrap();
    let last = done.entry(event["sessionId"].as_str().unwrap().to_owned()).or_default();
    let version = event["version"].as_i64().unwrap();
    assert!(version <= *last + 1, "version {version} after {last}: {event}");
    *last = version.max(*last);
}

/// A small generator of numbers, one for each member.
fn fastrand_seed(member: &str) -> impl FnMut() -> usize + use<> {
    let mut state = member.bytes().fold(7_usize, |state, byte| state * 31 + usize::from(byte));
    move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_is_done_and_each_session_in_its_order() {
    let app = spawn_app().await;
    let (other, shutdown_signal) = app.another_instance().await;
    consumer_from_beginning(&app).await;
    let done = Done::default();
    let write = async {
        let creating = (0..SESSIONS).map(|_| create_session(&app, &["alice", "bob", "carol"]));
        let sessions = futures_util::future::join_all(creating).await;
        for number in 2..=VERSIONS {
            for (path, _) in &sessions {
                let body = json!({ "operator": "alice", "title": format!("title {number}") });
                result(send(&app, Method::PATCH, path, &body).await).await;
            }
        }
    };
    let members = (0..MEMBERS).map(|number| {
        let address = if number % 2 == 0 { app.address } else { other };
        work(&app, address, format!("member-{number}"), &done)
    });
    let end_leases = async {
        loop {
            store::end_leases(&app, None).await;
            tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        }
    };
    let finished = async {
        write.await;
        let all_done = async || {
            // An event that failed ten times by chance is done as well, after its release.
            result(post_to(&app, app.address, "release", &json!({})).await).await;
            let state = status(&app).await;
            state["lag"] == 0 && state["headSeq"] == json!(SESSIONS as i64 * VERSIONS)
        };
        wait_until_within(std::time::Duration::from_secs(120), "all events done", all_done).await;
    };
    tokio::select! {
        () = finished => {}
        _ = futures_util::future::join_all(members) => unreachable!("members never end"),
        () = end_leases => unreachable!("leases end for ever"),
    }
    assert_eq!(store::count_miscounted_consumers(&app).await, 0);
    let done = done.lock().unwrap();
    assert_eq!(done.len(), SESSIONS);
    assert!(done.values().all(|version| *version == VERSIONS), "{done:?}");
    shutdown_signal.stop();
}
