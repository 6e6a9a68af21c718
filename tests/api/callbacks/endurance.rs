//! Real servers under load with a failing receiver: killed servers, and two servers side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::process::{Home, wait_for};
use super::receiver::{Call, Receiver, Reply, reply_with};
use crate::harness::process::{WAIT_TIMEOUT, plain_http};

/// Creates `sessions` sessions and changes each until it has `changes` versions. A failed request
/// is repeated, because a server may be killed meanwhile.
async fn change(urls: Arc<Mutex<Vec<String>>>, key: String, sessions: usize, changes: usize) {
    let http = plain_http().timeout(WAIT_TIMEOUT);
    let http = http.build().unwrap();
    let post = async |path: &str, body: Value| loop {
        let urls = urls.lock().unwrap().clone();
        let base = &urls[rand::random_range(0..urls.len())];
        let url = format!("{base}/cgi/session/{path}?accessToken={key}");
        let answer = http.post(url).body(body.to_string()).send().await;
        if let Ok(answer) = answer
            && let Ok(answer) = answer.json::<Value>().await
            && answer["errcode"] == 0
        {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let mut ids = Vec::new();
    for _ in 0..sessions {
        let body = json!({ "title": "t", "creator": "a", "member": ["b", "c"] });
        ids.push(post("create", body).await["sessionId"].as_str().unwrap().to_owned());
    }
    for _ in 1..changes {
        for id in &ids {
            let title = format!("{:x}", rand::random::<u64>());
            post("update", json!({ "sessionId": id, "opUser": "a", "title": title })).await;
        }
    }
}

/// The versions of each session in the order of their first acknowledgement.
fn first_acknowledged(calls: &[Call]) -> BTreeMap<String, Vec<i64>> {
    let mut acknowledged = BTreeSet::new();
    let mut sessions: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.acknowledged) {
        if acknowledged.insert((&call.session, call.version)) {
            sessions.entry(call.session.clone()).or_default().push(call.version);
        }
    }
    sessions
}

async fn deliveries(home: &Home) -> Vec<Value> {
    let list = home.run(&["delivery", "list", "--limit", "100000", "--json"]).await.json();
    list.as_array().unwrap().clone()
}

/// Checks that exactly the stored deliveries have arrived, in order within each session.
fn assert_all_arrived(list: &[Value], calls: &[Call]) {
    assert!(list.iter().all(|delivery| delivery["state"] == "delivered"));
    let mut expected: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for delivery in list {
        let id = delivery["sessionId"].as_str().unwrap().to_owned();
        expected.entry(id).or_default().push(delivery["version"].as_i64().unwrap());
    }
    for versions in expected.values_mut() {
        versions.sort_unstable();
        assert_eq!(*versions, (1..=i64::try_from(versions.len()).unwrap()).collect::<Vec<_>>());
    }
    assert_eq!(first_acknowledged(calls), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_and_failures_lose_no_delivery() {
    let started_at = Instant::now();
    let (home, receiver) = (Home::new(), Receiver::start().await);
    receiver.script(|_| if rand::random_bool(0.3) { reply_with(500, "") } else { Reply::Ok });
    let mut server = home.serve().await;
    home.subscribe(&receiver).await;
    let urls = Arc::new(Mutex::new(vec![server.url.clone()]));
    let started = Instant::now();
    let clients: Vec<_> =
        (0..8).map(|_| tokio::spawn(change(urls.clone(), home.api_key(), 25, 10))).collect();
    for arrived in [150, 500] {
        wait_for("callbacks arrive", 2 * WAIT_TIMEOUT, async || receiver.calls().len() >= arrived)
            .await;
        server.kill().await;
        server = home.serve().await;
        *urls.lock().unwrap() = vec![server.url.clone()];
    }
    let killed = started.elapsed();
    for client in clients {
        client.await.unwrap();
    }
    let changed = started.elapsed();
    // The leases of the killed servers expire half a minute later. Only then are their deliveries
    // claimed again.
    let list = loop {
        let list = deliveries(&home).await;
        if list.iter().all(|delivery| delivery["state"] == "delivered") {
            break list;
        }
        assert!(started.elapsed() < 5 * WAIT_TIMEOUT, "{}", home.log());
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let arrived = started.elapsed();
    server.stop().await;

    let calls = receiver.calls();
    assert_all_arrived(&list, &calls);
    assert!(list.len() >= 2_000, "{}", list.len());
    let failures = calls.iter().filter(|call| !call.acknowledged).count();
    let attempts: i64 = list.iter().map(|delivery| delivery["attempts"].as_i64().unwrap()).sum();
    // A kill loses results that are not stored yet: those of 16 attempts in flight, and those of up
    // to 64 ended attempts.
    let twice = calls.len() - failures - list.len();
    assert!(twice <= 2 * (16 + 64), "{twice} arrived twice");
    // A kill also loses claims that are not sent yet: 16 in flight, and up to 256 prefetched.
    let unsent = usize::try_from(attempts).unwrap() - calls.len();
    assert!(unsent <= 2 * (16 + 256), "{unsent} attempts never arrived");
    println!(
        "{} deliveries, {} attempts, {failures} failures, {twice} twice; second kill after {killed:?}, \
         changes done after {changed:?}, all arrived after {arrived:?}; whole test {:?}",
        list.len(),
        calls.len(),
        started_at.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_share_the_work() {
    let (home, receiver) = (Home::new(), Receiver::start().await);
    receiver.script(|_| if rand::random_bool(0.3) { reply_with(500, "") } else { Reply::Ok });
    let (first, second) = (home.serve().await, home.serve().await);
    home.subscribe(&receiver).await;
    let urls = Arc::new(Mutex::new(vec![first.url.clone(), second.url.clone()]));
    let started_at = Instant::now();
    let clients: Vec<_> =
        (0..8).map(|_| tokio::spawn(change(urls.clone(), home.api_key(), 10, 10))).collect();
    for client in clients {
        client.await.unwrap();
    }
    let changed = started_at.elapsed();
    let list = loop {
        let list = deliveries(&home).await;
        if list.iter().all(|delivery| delivery["state"] == "delivered") {
            break list;
        }
        assert!(started_at.elapsed() < changed + 2 * WAIT_TIMEOUT, "{}", home.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    println!("changes done after {changed:?}, all arrived after {:?}", started_at.elapsed());
    first.stop().await;
    second.stop().await;
    let calls = receiver.calls();
    assert_all_arrived(&list, &calls);
    assert_eq!(list.len(), 800);
    // There is one attempt for each delivery and one for each failure. So no lease has expired:
    // an expired lease gives an attempt without a call.
    let failures = calls.iter().filter(|call| !call.acknowledged).count();
    assert_eq!(calls.len(), 800 + failures);
    let attempts: i64 = list.iter().map(|delivery| delivery["attempts"].as_i64().unwrap()).sum();
    assert_eq!(usize::try_from(attempts).unwrap(), calls.len());
    let log = home.log();
    assert!(!log.contains("ERROR"), "{log}");
}
