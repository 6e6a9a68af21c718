//! Clients that follow changes with `updatedSince`: no change is lost in any order of commits and
//! with any clocks of the servers. Changes have the time of the database here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use chrono::TimeDelta;
use muster::clock::Clock;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{found, with};
use crate::harness::process::plain_http;
use crate::harness::store;
use crate::harness::{TestApp, spawn_app_with_clock};
use crate::v1::{create_session, get, problem, request, result, send};

const ORDERS: [&str; 4] = ["createdAt", "-createdAt", "updatedAt", "-updatedAt"];

/// The items and `completeUntil` of all pages. No item of the first page is younger than
/// `completeUntil`, and all pages have the same.
async fn changes(app: &TestApp, query: &[(&str, &str)]) -> (Vec<Value>, String) {
    let first = found(app, &with(super::SESSIONS, query)).await;
    let complete_until = first["completeUntil"].as_str().unwrap().to_owned();
    let mut items = first["items"].as_array().unwrap().clone();
    for item in &items {
        assert!(
            item["updatedAt"].as_str().unwrap() <= complete_until.as_str(),
            "{complete_until} {item}"
        );
    }
    let mut cursor = first["nextCursor"].as_str().map(str::to_owned);
    while let Some(text) = cursor {
        let query = [query, &[("cursor", text.as_str())]].concat();
        let page = found(app, &with(super::SESSIONS, &query)).await;
        assert_eq!(page["completeUntil"], complete_until.as_str());
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        cursor = page["nextCursor"].as_str().map(str::to_owned);
    }
    (items, complete_until)
}

/// A request to one of several servers.
fn call(app: &TestApp, server: SocketAddr, method: Method, path: &str) -> RequestBuilder {
    let http = plain_http().build().unwrap();
    http.request(method, format!("http://{server}{path}")).bearer_auth(&app.api_key)
}

fn ids(items: &[Value]) -> BTreeSet<&str> {
    super::texts(items, "sessionId").into_iter().collect()
}

fn bare_id(session: &Value) -> &str {
    session["sessionId"].as_str().unwrap().trim_matches(['{', '}'])
}

/// A change waits for a row lock, while a later change of another session is committed.
#[tokio::test(flavor = "multi_thread")]
async fn change_that_waits_for_a_lock_is_not_lost() {
    let app = spawn_app_with_clock(Clock::system()).await;
    // A server whose changes do not wait.
    let (other_server, signal) = app.another_instance().await;
    for order in ORDERS {
        let (path, waiting) = create_session(&app, &["a", "b", "c"]).await;
        let (other_path, other) = create_session(&app, &["a", "b", "c"]).await;
        let (listed, before) = changes(&app, &[("sort", "updatedAt")]).await;
        assert!(ids(&listed).contains(waiting["sessionId"].as_str().unwrap()));

        // A lock alone is no change, so it does not keep the list back.
        let mut lock = store::lock_session(store::connect(&app).await, bare_id(&waiting)).await;
        let (_, early) = create_session(&app, &["a", "b", "c"]).await;
        let since = [("sort", order), ("updatedSince", before.as_str())];
        let (listed, since_lock) = changes(&app, &since).await;
        assert!(ids(&listed).contains(early["sessionId"].as_str().unwrap()), "{order}");

        let body = json!({ "operator": "a", "title": "after" });
        let patch = request(&app, Method::PATCH, &path).json(&body).send();
        let patch = tokio::spawn(patch);
        store::wait_for_blocked_statement(&mut store::connect(&app).await).await;
        let (_, created) = create_session(&app, &["a", "b", "c"]).await;
        let changed = call(&app, other_server, Method::PATCH, &other_path).json(&body);
        let changed = result(changed.send().await.unwrap()).await;
        let later = [&created, &changed].map(|session| session["updatedAt"].as_str().unwrap());

        // The later changes are kept back, in lists by change without a beginning as well.
        for query in
            [&[("sort", order), ("updatedSince", &*since_lock)][..], &[("sort", "-updatedAt")]]
        {
            let (listed, complete_until) = changes(&app, query).await;
            assert!(later.iter().all(|at| *at > complete_until.as_str()), "{later:?}");
            let ids = ids(&listed);
            for session in [&created, &other] {
                assert!(!ids.contains(session["sessionId"].as_str().unwrap()), "{query:?}");
            }
        }
        let (_, complete_until) =
            changes(&app, &[("sort", order), ("updatedSince", &since_lock)]).await;

        store::unlock(&mut lock).await;
        let patched = result(patch.await.unwrap().unwrap()).await;
        let (listed, _) =
            changes(&app, &[("sort", order), ("updatedSince", &complete_until)]).await;
        for session in [&patched, &created, &changed] {
            assert!(listed.contains(session), "{order}: {session}");
        }
    }
    signal.stop();
}

/// The last state of a session that was written.
#[derive(Debug)]
struct LastWrite {
    id: String,
    version: i64,
    updated_at: String,
}

/// Creates and changes sessions through a server.
async fn write(app: std::sync::Arc<TestApp>, server: SocketAddr, task: usize) -> Vec<LastWrite> {
    let mut written = Vec::new();
    for round in 0..8 {
        let body = json!({ "operator": "a", "title": "t", "member": ["b", "c"] });
        let created = call(&app, server, Method::POST, super::SESSIONS).json(&body);
        let created = created.send().await.unwrap();
        let mut session = result(created).await;
        let path = format!("{}/{}", super::SESSIONS, bare_id(&session));
        for change in 0..4 {
            let body = json!({ "operator": "a", "title": format!("{task} {round} {change}") });
            let changed = call(&app, server, Method::PATCH, &path).json(&body).send().await;
            session = result(changed.unwrap()).await;
        }
        written.push(LastWrite {
            id: session["sessionId"].as_str().unwrap().to_owned(),
            version: session["version"].as_i64().unwrap(),
            updated_at: session["updatedAt"].as_str().unwrap().to_owned(),
        });
    }
    written
}

/// Three servers, whose clocks differ by hours, write at the same time. A client that continues with
/// `completeUntil` sees the last version of every session.
#[tokio::test(flavor = "multi_thread")]
async fn follower_sees_the_changes_of_servers_with_wrong_clocks() {
    let app = std::sync::Arc::new(spawn_app_with_clock(Clock::system()).await);
    let mut servers = vec![app.address];
    let mut signals = Vec::new();
    for hours in [-3, 5] {
        let clock = Clock::wrong_by(TimeDelta::hours(hours));
        let (address, signal) = app.another_instance_with_clock(clock).await;
        servers.push(address);
        signals.push(signal);
    }
    let mut writers = JoinSet::new();
    for task in 0..9 {
        writers.spawn(write(app.clone(), servers[task % servers.len()], task));
    }
    let mut seen: BTreeMap<String, i64> = BTreeMap::new();
    let mut written: Vec<LastWrite> = Vec::new();
    let mut since = "2000-01-01T00:00:00Z".to_owned();
    for round in 0.. {
        let order = ORDERS[round % ORDERS.len()];
        let query = [("updatedSince", since.as_str()), ("sort", order), ("limit", "7")];
        let (items, complete_until) = changes(&app, &query).await;
        assert!(complete_until >= since, "{complete_until} {since}");
        for item in items {
            let id = item["sessionId"].as_str().unwrap().to_owned();
            let version = item["version"].as_i64().unwrap();
            let last = seen.entry(id).or_default();
            *last = version.max(*last);
        }
        since = complete_until;
        // Other transactions of the server keep `completeUntil` back for a while.
        let last = written.iter().map(|last| last.updated_at.as_str()).max();
        if writers.is_empty() && last.is_some_and(|last| since.as_str() >= last) {
            break;
        }
        while let Some(done) = writers.try_join_next() {
            written.extend(done.unwrap());
        }
    }
    assert_eq!(written.len(), 9 * 8);
    let missed: Vec<_> =
        written.iter().filter(|last| seen.get(&last.id) != Some(&last.version)).collect();
    assert!(missed.is_empty(), "{missed:?}");
    signals.iter().for_each(|signal| signal.stop());
}

/// The time of a change is that of the database. The clock of the server has no effect on it.
#[tokio::test(flavor = "multi_thread")]
async fn change_of_a_server_with_a_fast_clock_is_listed_at_once() {
    let app = spawn_app_with_clock(Clock::wrong_by(TimeDelta::hours(1))).await;
    let (path, created) = create_session(&app, &["a", "b", "c"]).await;
    let (listed, complete_until) = changes(&app, &[("updatedSince", "2000-01-01T00:00:00Z")]).await;
    assert_eq!(listed, std::slice::from_ref(&created));
    let body = json!({ "operator": "a", "title": "after" });
    let changed = result(send(&app, Method::PATCH, &path, &body).await).await;
    assert!(changed["updatedAt"].as_str().unwrap() > complete_until.as_str(), "{changed}");
    let (listed, _) = changes(&app, &[("updatedSince", &complete_until)]).await;
    assert_eq!(listed, std::slice::from_ref(&changed));
    // The response, the session and the history have the same times.
    assert_eq!(get(&app, &path).await, changed);
    assert_eq!(get(&app, &format!("{path}?version=1")).await, created);
    let events = get(&app, &format!("{path}/events")).await;
    assert_eq!(events["items"][1]["createdAt"], changed["updatedAt"]);
}

/// A read at a time is refused as long as its answer may change.
#[tokio::test(flavor = "multi_thread")]
async fn read_at_an_unsettled_time_is_refused() {
    let app = spawn_app_with_clock(Clock::system()).await;
    let (path, session) = create_session(&app, &["a", "b", "c"]).await;
    let (other, _) = create_session(&app, &["a", "b", "c"]).await;
    let mut lock = store::lock_session(store::connect(&app).await, bare_id(&session)).await;
    let body = json!({ "operator": "a", "title": "after" });
    let patch = tokio::spawn(request(&app, Method::PATCH, &path).json(&body).send());
    store::wait_for_blocked_statement(&mut store::connect(&app).await).await;
    let (other_server, signal) = app.another_instance().await;
    let changed = call(&app, other_server, Method::PATCH, &other).json(&body).send().await;
    let changed = result(changed.unwrap()).await;
    let at = changed["updatedAt"].as_str().unwrap();
    let response = request(&app, Method::GET, &format!("{path}?at={at}")).send().await.unwrap();
    assert_eq!(response.headers()["retry-after"], "1");
    let (status, code, rest) = problem(response).await;
    assert_eq!((status, code.as_str(), &rest["field"]), (409, "time_not_settled", &json!("at")));
    // An earlier time is answered.
    let created_at = session["createdAt"].as_str().unwrap();
    assert_eq!(get(&app, &format!("{path}?at={created_at}")).await, session);
    store::unlock(&mut lock).await;
    let patched = result(patch.await.unwrap().unwrap()).await;
    let now = patched["updatedAt"].as_str().unwrap();
    let at_that_time = if now <= at { &patched } else { &session };
    assert_eq!(get(&app, &format!("{path}?at={at}")).await, *at_that_time);
    assert_eq!(get(&app, &format!("{path}?at={now}")).await, patched);
    let (status, code, _) = problem(
        request(&app, Method::GET, &format!("{path}?at=2100-01-01T00:00:00Z"))
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_eq!((status, code.as_str()), (409, "time_not_settled"));
    signal.stop();
}
