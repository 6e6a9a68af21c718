//! The rules of acknowledgements.

use serde_json::json;

use super::{
    acknowledge, changes, consumer_from_beginning, fetch, post_to, put, session_with_versions,
    status, wait_numbered,
};
use crate::harness::{spawn_app, store};
use crate::v1::{get, problem};

const THREE: [&str; 3] = ["alice", "bob", "carol"];

#[tokio::test(flavor = "multi_thread")]
async fn event_can_be_acknowledged_twice_and_in_any_order() {
    let app = spawn_app().await;
    session_with_versions(&app, &THREE, 3).await;
    wait_numbered(&app).await;
    consumer_from_beginning(&app).await;
    let events = fetch(&app, "a", 50).await;
    assert_eq!(acknowledge(&app, "a", &events[1..]).await, (2, vec![]));
    assert_eq!(status(&app).await["position"], 0);
    assert_eq!(acknowledge(&app, "a", &events).await, (3, vec![]));
    assert_eq!(acknowledge(&app, "a", &events).await, (3, vec![]));
    assert_eq!(acknowledge(&app, "a", &[]).await, (0, vec![]));
    assert_eq!(status(&app).await["position"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_lease_counts_until_another_member_has_the_event() {
    let app = spawn_app().await;
    session_with_versions(&app, &THREE, 1).await;
    wait_numbered(&app).await;
    consumer_from_beginning(&app).await;
    let events = fetch(&app, "a", 50).await;
    store::end_leases(&app, None).await;
    let other_member = acknowledge(&app, "b", &events).await;
    assert_eq!(other_member, (0, vec![events[0]["cursor"].clone()]));
    assert_eq!(acknowledge(&app, "a", &events).await, (1, vec![]));
    assert_eq!(changes(&fetch(&app, "b", 50).await), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn event_that_was_never_handed_out_is_lost() {
    let app = spawn_app().await;
    put(&app, super::MIRROR, json!({})).await;
    session_with_versions(&app, &THREE, 1).await;
    wait_numbered(&app).await;
    let page = get(&app, "/v1/events?after=0").await;
    let events = page["events"].as_array().unwrap();
    assert_eq!(acknowledge(&app, "a", events).await, (0, vec![events[0]["cursor"].clone()]));
    assert_eq!(changes(&fetch(&app, "a", 50).await).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_history_expires_a_consumer_until_it_is_reset() {
    let app = spawn_app().await;
    session_with_versions(&app, &THREE, 2).await;
    wait_numbered(&app).await;
    consumer_from_beginning(&app).await;
    let events = fetch(&app, "a", 1).await;
    store::renew_epoch(&app).await;
    store::end_leases(&app, None).await;
    let fetching = json!({ "member": "a" });
    let acknowledging = json!({ "member": "a", "cursors": [events[0]["cursor"]] });
    for (action, body) in [("fetch", fetching.clone()), ("ack", acknowledging.clone())] {
        let response = post_to(&app, app.address, action, &body).await;
        let link = response.headers()["link"].to_str().unwrap().to_owned();
        assert!(link.contains("/v1/events?snapshot=true"), "{link}");
        let (status, code, rest) = problem(response).await;
        assert_eq!(
            (status, code.as_str(), &rest["field"]),
            (410, "cursor_expired", &json!("name"))
        );
    }
    assert_eq!(status(&app).await["expired"], true);
    // A cursor of the former history is no position to reset to.
    let reset = json!({ "start": events[0]["cursor"] });
    let (status_code, code, rest) =
        problem(post_to(&app, app.address, "reset", &reset).await).await;
    assert_eq!(
        (status_code, code.as_str(), &rest["field"]),
        (410, "cursor_expired", &json!("start"))
    );
    let reset = post_to(&app, app.address, "reset", &json!({ "start": "0" })).await;
    assert_eq!(crate::v1::result(reset).await["expired"], false);
    let again = fetch(&app, "a", 50).await;
    assert_eq!(changes(&again).len(), 2);
    assert_eq!(again[0]["attempt"], 1);
    // An acknowledgement from before the reset does not count for the event of the same number.
    let response = post_to(&app, app.address, "ack", &acknowledging).await;
    assert_eq!(problem(response).await.1, "cursor_expired");
    assert_eq!(status(&app).await["leased"], 2);
}
