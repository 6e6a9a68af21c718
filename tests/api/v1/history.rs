//! Past versions of sessions: `?version=`, `?at=`, events and differences.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{create_session, get, problem, request, result, send};
use crate::harness::{TestApp, spawn_app};

/// Creates a session with `versions` versions, ten seconds apart. Returns its path and versions.
async fn with_history(app: &TestApp, versions: usize) -> (String, Vec<Value>) {
    let (path, first) = create_session(app, &["a", "b", "c"]).await;
    let mut states = vec![first];
    while states.len() < versions {
        app.clock.advance(Duration::from_secs(10));
        let version = states.len() + 1;
        let body = json!({
            "operator": "a", "title": format!("title {version}"),
            "addMember": [format!("m{version}")], "delMember": [format!("m{}", version - 1)],
            "attributes": { "at": version, (version % 3).to_string(): version }
        });
        states.push(result(send(app, Method::PATCH, &path, &body).await).await);
    }
    (path, states)
}

async fn refusal(app: &TestApp, path: &str) -> (u16, String, Value) {
    let (status, code, rest) = problem(request(app, Method::GET, path).send().await.unwrap()).await;
    (status, code, rest["field"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn past_version_is_returned() {
    let app = spawn_app().await;
    let (path, states) = with_history(&app, 5).await;
    app.clock.advance(Duration::from_secs(10));
    for (at, state) in states.iter().enumerate() {
        let version = at + 1;
        let response = request(&app, Method::GET, &format!("{path}?version={version}"));
        let response = response.send().await.unwrap();
        assert_eq!(response.headers()["etag"], format!("\"{version}\"").as_str());
        assert_eq!(result(response).await, *state);
        // A version is current from its time until that of the next one.
        for seconds in [at * 10, at * 10 + 9] {
            let time = format!(
                "2024-06-10T08:{:02}:{:02}%2B02:00",
                13 + (20 + seconds) / 60,
                (20 + seconds) % 60
            );
            assert_eq!(get(&app, &format!("{path}?at={time}")).await, *state, "{time}");
        }
    }
    for (query, status, code, field) in [
        ("version=6", 404, "version_not_found", "version"),
        ("at=2024-06-10T06:13:19.999999Z", 404, "version_not_found", "at"),
        // The answer would be another one after the next change.
        ("at=2100-01-01T00:00:00Z", 409, "time_not_settled", "at"),
        ("version=0", 400, "invalid_parameter", "version"),
        ("version=x", 400, "invalid_parameter", "version"),
        ("at=yesterday", 400, "invalid_parameter", "at"),
        ("at=2024-06-10T06:13:20", 400, "invalid_parameter", "at"),
        ("version=1&at=2024-06-10T06:13:20Z", 400, "invalid_parameter", "at"),
        ("versions=1", 400, "unknown_parameter", "versions"),
    ] {
        let found = refusal(&app, &format!("{path}?{query}")).await;
        assert_eq!(found, (status, code.to_owned(), json!(field)), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_has_its_event() {
    let app = spawn_app().await;
    let (path, _) = with_history(&app, 3).await;
    let app_id = &app.client.app_id;
    let events = get(&app, &format!("{path}/events")).await;
    let expected = json!({ "nextCursor": null, "items": [
        {
            "version": 1, "kind": "created", "operator": "a", "appId": app_id, "reason": null,
            "createdAt": "2024-06-10T06:13:20.000000Z",
            "changes": { "title": "before", "owner": "a", "member": ["a", "b", "c"], "state": "active" }
        },
        {
            "version": 2, "kind": "updated", "operator": "a", "appId": app_id, "reason": null,
            "createdAt": "2024-06-10T06:13:30.000000Z",
            "changes": { "title": "title 2", "addMember": ["m2"], "attributes": { "2": 2, "at": 2 } }
        },
        {
            "version": 3, "kind": "updated", "operator": "a", "appId": app_id, "reason": null,
            "createdAt": "2024-06-10T06:13:40.000000Z",
            "changes": {
                "title": "title 3", "addMember": ["m3"], "delMember": ["m2"],
                "attributes": { "0": 3, "at": 3 }
            }
        }
    ] });
    assert_eq!(events, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_paged_in_either_order() {
    let app = spawn_app().await;
    let (path, _) = with_history(&app, 7).await;
    for (order, expected) in
        [("", vec![1, 2, 3, 4, 5, 6, 7]), ("&order=desc", vec![7, 6, 5, 4, 3, 2, 1])]
    {
        for limit in [1, 3, 6, 7, 8, 200] {
            let (mut found, mut pages, mut cursor) = (Vec::new(), 0, String::new());
            loop {
                let page = get(&app, &format!("{path}/events?limit={limit}{order}{cursor}")).await;
                let items = page["items"].as_array().unwrap();
                found.extend(items.iter().map(|event| event["version"].as_i64().unwrap()));
                pages += 1;
                let Some(next) = page["nextCursor"].as_str() else { break };
                assert_eq!(items.len(), limit);
                cursor = format!("&cursor={next}");
            }
            assert_eq!((&found, pages), (&expected, 7_usize.div_ceil(limit)), "{order} {limit}");
        }
    }
    let page = get(&app, &format!("{path}/events?limit=2")).await;
    let cursor = page["nextCursor"].as_str().unwrap();
    let (another, _) = with_history(&app, 3).await;
    let page = get(&app, &format!("{another}/events?limit=2")).await;
    let of_another = page["nextCursor"].as_str().unwrap();
    for (query, field) in [
        (format!("cursor={cursor}&order=desc"), "cursor"),
        (format!("cursor=x{cursor}"), "cursor"),
        (format!("cursor={of_another}"), "cursor"),
        ("cursor=2".to_owned(), "cursor"),
        ("cursor=".to_owned(), "cursor"),
        ("limit=0".to_owned(), "limit"),
        ("limit=201".to_owned(), "limit"),
        ("order=up".to_owned(), "order"),
    ] {
        let found = refusal(&app, &format!("{path}/events?{query}")).await;
        assert_eq!(found, (400, "invalid_parameter".to_owned(), json!(field)), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_versions_are_compared() {
    let app = spawn_app().await;
    let (path, _) = with_history(&app, 4).await;
    let body = json!({ "operator": "a", "owner": "b", "title": "before" });
    result(send(&app, Method::PATCH, &path, &body).await).await;
    let diff =
        async |from: i64, to: i64| get(&app, &format!("{path}/diff?from={from}&to={to}")).await;
    let unchanged = json!({
        "from": 2, "to": 2, "title": null, "owner": null, "addMember": [], "delMember": [],
        "reordered": false, "attributes": null, "state": null
    });
    assert_eq!(diff(2, 2).await, unchanged);
    let forward = json!({
        "from": 1, "to": 5, "title": null, "owner": { "from": "a", "to": "b" },
        "addMember": ["m4"], "delMember": [], "reordered": false,
        "attributes": { "0": 3, "1": 4, "2": 2, "at": 4 }, "state": null
    });
    assert_eq!(diff(1, 5).await, forward);
    let back = json!({
        "from": 4, "to": 2, "title": { "from": "title 4", "to": "title 2" }, "owner": null,
        "addMember": ["m2"], "delMember": ["m4"], "reordered": false,
        "attributes": { "0": null, "1": null, "at": 2 }, "state": null
    });
    assert_eq!(diff(4, 2).await, back);
    for (query, status, code, field) in [
        ("from=1", 400, "missing_parameter", "to"),
        ("from=0&to=1", 400, "invalid_parameter", "from"),
        ("from=1&to=-1", 400, "invalid_parameter", "to"),
        ("from=1&to=6", 404, "version_not_found", "to"),
        ("from=6&to=1", 404, "version_not_found", "from"),
        ("from=6&to=7", 404, "version_not_found", "to"),
    ] {
        let found = refusal(&app, &format!("{path}/diff?{query}")).await;
        assert_eq!(found, (status, code.to_owned(), json!(field)), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn diff_includes_state_and_member_order() {
    let app = spawn_app().await;
    let (path, _) = create_session(&app, &["a", "b", "c", "d"]).await;
    for change in [json!({ "delMember": ["b"] }), json!({ "addMember": ["b"] })] {
        let mut body = change;
        body["operator"] = json!("a");
        result(send(&app, Method::PATCH, &path, &body).await).await;
    }
    let builder = request(&app, Method::DELETE, &format!("{path}?operator=a"));
    result(builder.send().await.unwrap()).await;
    let diff = async |query: &str| get(&app, &format!("{path}/diff?{query}")).await;
    let mut expected = json!({
        "from": 1, "to": 4, "title": null, "owner": null, "addMember": [], "delMember": [],
        "reordered": true, "attributes": null, "state": { "from": "active", "to": "dissolved" }
    });
    assert_eq!(diff("from=1&to=4").await, expected);
    (expected["from"], expected["to"]) = (json!(4), json!(1));
    expected["state"] = json!({ "from": "dissolved", "to": "active" });
    assert_eq!(diff("from=4&to=1").await, expected);
    // The old position of a returning member differs from the end of the list.
    let back = diff("from=2&to=1").await;
    assert_eq!((&back["addMember"], &back["reordered"]), (&json!(["b"]), &json!(true)));
    let on = diff("from=2&to=3").await;
    assert_eq!((&on["addMember"], &on["reordered"]), (&json!(["b"]), &json!(false)));
}
