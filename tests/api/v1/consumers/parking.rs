//! Events that fail too often.

use serde_json::{Value, json};

use super::{
    acknowledge, changes, consumer_from_beginning, fetch, post_to, session_with_versions, status,
    wait_numbered,
};
use crate::harness::{TestApp, spawn_app, store};
use crate::v1::result;

const THREE: [&str; 3] = ["alice", "bob", "carol"];

/// Fetches and lets leases end until the first event of a session is parked. Returns the attempts of the
/// first event, and the largest number of events that came with it.
async fn fail(app: &TestApp) -> Vec<(i64, usize)> {
    let mut attempts = Vec::new();
    loop {
        let events = fetch(app, "a", 50).await;
        let Some(first) = events.first() else { return attempts };
        attempts.push((first["attempt"].as_i64().unwrap(), events.len()));
        store::end_leases(app, None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn event_is_parked_after_ten_attempts_and_its_session_waits() {
    let app = spawn_app().await;
    let failing = session_with_versions(&app, &THREE, 3).await;
    wait_numbered(&app).await;
    consumer_from_beginning(&app).await;
    // Three attempts are made with the later events of the session. Then the event fails alone.
    let shared = (1..=3).map(|attempt| (attempt, 3));
    let alone = (4..=10).map(|attempt| (attempt, 1));
    assert_eq!(fail(&app).await, shared.chain(alone).collect::<Vec<_>>());
    let state = status(&app).await;
    assert_eq!(
        (&state["parked"], &state["waiting"], &state["ready"]),
        (&json!(1), &json!(2), &json!(0))
    );
    let parked = &state["parkedEvents"][0];
    assert_eq!((&parked["sessionId"], &parked["version"]), (&json!(failing), &json!(1)));
    assert_eq!((&parked["attempts"], &parked["member"]), (&json!(10), &json!("a")));
    assert_eq!(state["oldestUnacknowledged"]["seq"], 1);

    // Other sessions pass, and later events of the session wait.
    let path = format!("/v1/sessions/{}", failing.trim_matches(['{', '}']));
    let body = json!({ "operator": "alice", "title": "later" });
    result(super::send(&app, reqwest::Method::PATCH, &path, &body).await).await;
    let passing = session_with_versions(&app, &THREE, 1).await;
    wait_numbered(&app).await;
    let events = fetch(&app, "b", 50).await;
    assert_eq!(changes(&events), [(passing, 1)]);
    assert_eq!(acknowledge(&app, "b", &events).await, (1, vec![]));
    assert_eq!(status(&app).await["waiting"], 3);
    assert_eq!(store::count_miscounted_consumers(&app).await, 0);

    // A late acknowledgement does not count, because the event is visibly parked.
    let late = json!({ "member": "a", "cursors": [parked["cursor"]] });
    let late = result(post_to(&app, app.address, "ack", &late).await).await;
    assert_eq!(late["lost"], json!([parked["cursor"]]));

    let release = json!({ "cursors": [parked["cursor"]] });
    let released = result(post_to(&app, app.address, "release", &release).await).await;
    assert_eq!(released, json!({ "released": 1 }));
    let events = fetch(&app, "b", 50).await;
    assert_eq!(
        changes(&events),
        (1..=4).map(|version| (failing.clone(), version)).collect::<Vec<_>>()
    );
    assert_eq!(events[0]["attempt"], 1);
    assert_eq!(acknowledge(&app, "b", &events).await, (4, vec![]));
    let state = status(&app).await;
    assert_eq!(
        (&state["parked"], &state["waiting"], &state["lag"]),
        (&json!(0), &json!(0), &json!(0))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn discarded_event_counts_as_done() {
    let app = spawn_app().await;
    let failing = session_with_versions(&app, &THREE, 2).await;
    wait_numbered(&app).await;
    consumer_from_beginning(&app).await;
    fail(&app).await;
    let discard = async || {
        let body = json!({ "discard": true });
        result(post_to(&app, app.address, "release", &body).await).await
    };
    assert_eq!(discard().await, json!({ "released": 1 }));
    assert_eq!(discard().await, json!({ "released": 0 }));
    let events: Vec<Value> = fetch(&app, "a", 50).await;
    assert_eq!(changes(&events), [(failing, 2)]);
    assert_eq!(acknowledge(&app, "a", &events).await, (1, vec![]));
    assert_eq!(status(&app).await["position"], 2);
}

/// A change that waited behind an event that is not parked any more would never be handed out.
#[tokio::test(flavor = "multi_thread")]
async fn change_that_is_selected_during_a_release_does_not_wait() {
    let app = spawn_app().await;
    let failing = session_with_versions(&app, &THREE, 1).await;
    consumer_from_beginning(&app).await;
    fail(&app).await;
    let path = format!("/v1/sessions/{}", failing.trim_matches(['{', '}']));
    let body = json!({ "operator": "alice", "title": "later" });
    result(super::send(&app, reqwest::Method::PATCH, &path, &body).await).await;
    wait_numbered(&app).await;
    let mut release = store::begin_release(&app).await;
    let commit = async {
        store::wait_for_blocked_statement(&mut release).await;
        store::commit(&mut release).await;
    };
    let (mut events, ()) = tokio::join!(fetch(&app, "a", 50), commit);
    assert_eq!(acknowledge(&app, "a", &events).await, (1, vec![]));
    events.extend(fetch(&app, "a", 50).await);
    assert_eq!(changes(&events), [(failing.clone(), 1), (failing, 2)]);
    assert_eq!(status(&app).await["waiting"], 0);
    assert_eq!(store::count_miscounted_consumers(&app).await, 0);
}
