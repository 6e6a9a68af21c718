//! Members and their leases.

use serde_json::json;

use super::{
    acknowledge, changes, consumer_from_beginning, fetch, fetch_from, session_with_versions,
    status, wait_numbered,
};
use crate::harness::{spawn_app, store};
use crate::v1::get;

const THREE: [&str; 3] = ["alice", "bob", "carol"];

#[tokio::test(flavor = "multi_thread")]
async fn member_gets_the_events_of_a_page_and_acknowledges_them() {
    let app = spawn_app().await;
    let first = session_with_versions(&app, &THREE, 3).await;
    let second = session_with_versions(&app, &THREE, 1).await;
    wait_numbered(&app).await;
    consumer_from_beginning(&app).await;
    let events = fetch(&app, "a", 50).await;
    let expected = [(first.clone(), 1), (first.clone(), 2), (first, 3), (second, 1)];
    assert_eq!(changes(&events), expected);
    let page = get(&app, "/v1/events?after=0").await;
    for (event, expected) in events.iter().zip(page["events"].as_array().unwrap()) {
        let mut event = event.as_object().unwrap().clone();
        assert_eq!(event.remove("attempt"), Some(json!(1)));
        assert!(event.remove("leaseUntil").unwrap().is_string());
        assert_eq!(serde_json::Value::from(event), *expected);
    }
    let state = status(&app).await;
    assert_eq!(
        (&state["leased"], &state["position"], &state["lag"]),
        (&json!(4), &json!(0), &json!(4))
    );
    assert_eq!(state["oldestUnacknowledged"]["seq"], 1);
    assert_eq!(
        (&state["members"][0]["member"], &state["members"][0]["leased"]),
        (&json!("a"), &json!(4))
    );
    assert_eq!(acknowledge(&app, "a", &events).await, (4, vec![]));
    let state = status(&app).await;
    assert_eq!(
        (&state["leased"], &state["position"], &state["lag"]),
        (&json!(0), &json!(4), &json!(0))
    );
    assert_eq!((&state["oldestUnacknowledged"], &state["members"]), (&json!(null), &json!([])));
    assert_eq!(fetch(&app, "a", 50).await, [] as [serde_json::Value; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_on_two_servers_never_have_one_session_at_a_time() {
    let app = spawn_app().await;
    let (other, shutdown_signal) = app.another_instance().await;
    let first = session_with_versions(&app, &THREE, 3).await;
    let second = session_with_versions(&app, &THREE, 2).await;
    wait_numbered(&app).await;
    consumer_from_beginning(&app).await;
    let of_a = fetch(&app, "a", 1).await;
    assert_eq!(changes(&of_a), [(first.clone(), 1)]);
    // The rest of the first session waits for its first event, also for the same member.
    let of_b = fetch_from(&app, other, "b", 50).await;
    assert_eq!(changes(&of_b), [(second.clone(), 1), (second, 2)]);
    assert_eq!(changes(&fetch_from(&app, other, "b", 50).await), []);
    assert_eq!(changes(&fetch(&app, "a", 50).await), []);
    assert_eq!(acknowledge(&app, "a", &of_a).await, (1, vec![]));
    let rest = fetch_from(&app, other, "b", 50).await;
    assert_eq!(changes(&rest), [(first.clone(), 2), (first, 3)]);
    shutdown_signal.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn share_of_a_dead_member_moves_when_its_lease_ends() {
    let app = spawn_app().await;
    let (other, shutdown_signal) = app.another_instance().await;
    session_with_versions(&app, &THREE, 2).await;
    wait_numbered(&app).await;
    consumer_from_beginning(&app).await;
    let of_a = fetch(&app, "a", 50).await;
    assert_eq!(changes(&fetch_from(&app, other, "b", 50).await), []);
    store::end_leases(&app, Some("a")).await;
    let of_b = fetch_from(&app, other, "b", 50).await;
    assert_eq!(changes(&of_b), changes(&of_a));
    assert_eq!(of_b[0]["attempt"], 2);
    // The response tells the late member that it has lost these events.
    let (done, lost) = acknowledge(&app, "a", &of_a).await;
    assert_eq!((done, lost), (0, of_a.iter().map(|event| event["cursor"].clone()).collect()));
    assert_eq!(acknowledge(&app, "b", &of_b).await, (2, vec![]));
    shutdown_signal.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn lease_of_a_consumer_is_the_time_of_the_database() {
    let app = spawn_app().await;
    session_with_versions(&app, &THREE, 1).await;
    wait_numbered(&app).await;
    let body = json!({ "start": "0", "lease": "43200s" });
    assert_eq!(super::put(&app, super::MIRROR, body).await["lease"], "43200s");
    // The clock of the test is years behind that of the database.
    let events = fetch(&app, "a", 1).await;
    let until = events[0]["leaseUntil"].as_str().unwrap();
    assert!(until > "2025-01-01", "{until}");
    assert_eq!(status(&app).await["members"][0]["leaseUntil"], events[0]["leaseUntil"]);
}
