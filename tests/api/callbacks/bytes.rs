//! The exact bytes of callback requests.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::receiver::{Receiver, reply_with};
use super::{
    TOKEN, create, delivery_id, rename, spawn, spawn_subscribed, subscriber, update, worker,
};
use crate::harness::client::Client;
use crate::harness::insert;

#[tokio::test(flavor = "multi_thread")]
async fn creation_callback_matches_the_protocol() {
    let (app, receiver, stored) = spawn_subscribed().await;
    let body = json!({ "title": "项目 \"x\"", "creator": "a", "member": ["b", 10232, "b"] });
    let created = app.create(&body).await;
    let id = created["sessionId"].as_str().unwrap();
    app.clock.advance(Duration::from_secs(7));
    assert_eq!(worker(&app).await.drain().await.unwrap(), 1);

    let calls = receiver.calls();
    let [call] = calls.as_slice() else { panic!("{calls:#?}") };
    let delivery = delivery_id(id, 1, &stored);
    assert_eq!(
        call.message,
        format!(
            r#"{{"fromUser":"a","createTime":1718000000,"packageId":"{delivery}","sessionId":"{id}","version":1,"msgType":"session_create","session_create":{{"type":"multi","title":"项目 \"x\"","member":["a","b","10232"]}}}}"#
        )
    );
    assert_eq!(call.path(), "/");
    let query = call.query();
    let [signature, timestamp, nonce] = query.as_slice() else { panic!("{query:?}") };
    assert_eq!(signature.0, "msg_signature");
    assert_eq!(signature.1.len(), 40);
    assert!(signature.1.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')), "{signature:?}");
    // The timestamp is that of the attempt, not of the change.
    assert_eq!(timestamp, &("timestamp".to_owned(), "1718000007".to_owned()));
    assert_eq!(nonce.0, "nonce");
    assert!(!nonce.1.is_empty() && !nonce.1.contains(['=', '&']), "{nonce:?}");
    // One receiver splits the query by hand and decodes nothing.
    assert_eq!(
        call.target,
        format!("/?msg_signature={}&timestamp=1718000007&nonce={}", signature.1, nonce.1)
    );
    let body: serde_json::Value = serde_json::from_str(&call.body).unwrap();
    assert_eq!(body["toBuin"], 14_731_009);
    assert_eq!(body["toApp"], stored.app.app_id.as_str());
    assert_eq!(call.headers["x-muster-attempt"], "1");
    assert_eq!(call.headers["x-muster-version"], "1");
    let plain = id.trim_matches(['{', '}']).to_lowercase();
    assert_eq!(call.headers["x-muster-delivery"], format!("{plain}.1.{}", stored.app.app_id));
}

/// The C# receiver looks for exactly `Content-Length`.
#[tokio::test(flavor = "multi_thread")]
async fn header_names_are_in_title_case() {
    let (app, receiver, _) = spawn_subscribed().await;
    let body = json!({ "title": "t", "creator": "a", "member": ["b", "c"] });
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let url = format!("/cgi/session/create?accessToken={}", app.api_key);
    let request = app.client.request(Method::POST, &url).header("traceparent", traceparent);
    assert_eq!(request.body(body.to_string()).send().await.unwrap().status(), 200);
    worker(&app).await.drain().await.unwrap();
    let [call] = receiver.take().try_into().unwrap();
    let mut names = call.header_names;
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "Accept",
            "Content-Length",
            "Content-Type",
            "Host",
            "Traceparent",
            "User-Agent",
            "X-Muster-Attempt",
            "X-Muster-Delivery",
            "X-Muster-Version",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dissolve_and_restore_are_update_callbacks() {
    let (app, receiver, stored) = spawn_subscribed().await;
    let id = create(&app).await;
    let path = format!("/v1/sessions/{}", id.trim_matches(['{', '}']));
    let dissolved = app.client.request(Method::DELETE, &format!("{path}?operator=a"));
    let restored = app.client.request(Method::POST, &format!("{path}/restore"));
    for request in [dissolved, restored.json(&json!({ "operator": "a" }))] {
        let response = request.bearer_auth(&app.api_key).send().await.unwrap();
        assert_eq!(response.status(), 200);
    }
    worker(&app).await.drain().await.unwrap();
    let messages: Vec<String> = receiver.calls().into_iter().map(|call| call.message).collect();
    assert_eq!(messages.len(), 3);
    for (version, state) in [(2, "dissolved"), (3, "active")] {
        let delivery = delivery_id(&id, version, &stored);
        let message = format!(
            r#"{{"fromUser":"a","createTime":1718000000,"packageId":"{delivery}","sessionId":"{id}","version":{version},"msgType":"session_update","session_update":{{"owner":"a","title":"t","addMember":[],"delMember":[],"state":"{state}"}}}}"#
        );
        assert_eq!(messages[usize::try_from(version).unwrap() - 1], message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn update_callback_matches_the_protocol() {
    let (app, receiver, stored) = spawn_subscribed().await;
    let id = create(&app).await;
    app.clock.advance(Duration::from_secs(60));
    for change in [
        json!({ "title": "t2" }),
        // The callback omits added accounts that are members already, and removed accounts
        // that are not members.
        json!({ "addMember": ["b", "d", "e", "d"], "delMember": ["x"] }),
        json!({ "opUser": "b", "title": "t3", "addMember": ["f"] }),
        json!({ "delMember": ["d", "x"] }),
        // The owner leaves, and `b` is the member of longest standing.
        json!({ "delMember": ["a"] }),
    ] {
        update(&app, &id, change).await;
    }
    worker(&app).await.drain().await.unwrap();

    let messages: Vec<String> = receiver.calls().into_iter().map(|call| call.message).collect();
    assert_eq!(messages.len(), 6);
    for (version, (from, news)) in (2..).zip([
        ("a", r#""owner":"a","title":"t2","addMember":[],"delMember":[]"#),
        ("a", r#""owner":"a","title":"t2","addMember":["d","e"],"delMember":[]"#),
        ("b", r#""owner":"a","title":"t3","addMember":["f"],"delMember":[]"#),
        ("a", r#""owner":"a","title":"t3","addMember":[],"delMember":["d"]"#),
        ("a", r#""owner":"b","title":"t3","addMember":[],"delMember":["a"]"#),
    ]) {
        let delivery = delivery_id(&id, version, &stored);
        assert_eq!(
            messages[usize::try_from(version).unwrap() - 1],
            format!(
                r#"{{"fromUser":"{from}","createTime":1718000060,"packageId":"{delivery}","sessionId":"{id}","version":{version},"msgType":"session_update","session_update":{{{news}}}}}"#
            )
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_share_an_id_and_have_own_signatures() {
    let (app, receiver, _) = spawn_subscribed().await;
    let id = create(&app).await;
    rename(&app, &id, 1).await;
    receiver.script(|_| reply_with(500, ""));
    let mut worker = worker(&app).await;
    for _ in 0..2 {
        worker.drain().await.unwrap();
        app.clock.advance(Duration::from_secs(36));
    }
    receiver.recover();
    worker.drain().await.unwrap();

    let calls = receiver.calls();
    let attempts: Vec<(i64, i32)> = calls.iter().map(|call| (call.version, call.attempt)).collect();
    assert_eq!(attempts, [(1, 1), (1, 2), (1, 3), (2, 1)]);
    let first = &calls[..3];
    let all = |name: &str| first.iter().map(|call| call.headers[name].clone()).collect::<Vec<_>>();
    assert!(all("x-muster-delivery").iter().all(|id| *id == calls[0].headers["x-muster-delivery"]));
    assert_ne!(calls[3].headers["x-muster-delivery"], calls[0].headers["x-muster-delivery"]);
    assert_eq!(all("x-muster-version"), ["1", "1", "1"]);
    assert!(first.iter().all(|call| call.message == calls[0].message));
    let times: Vec<String> = first.iter().map(|call| call.parameter("timestamp")).collect();
    assert_eq!(times, ["1718000000", "1718000036", "1718000072"]);
    assert_ne!(calls[0].parameter("nonce"), calls[1].parameter("nonce"));
    assert_ne!(calls[0].body, calls[1].body, "each attempt is encrypted with new random bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn callback_url_keeps_its_query() {
    let (app, receiver) = (spawn().await, Receiver::start().await);
    for (path, expected) in [
        ("/a/b?key=x%20y&flag", "/a/b?key=x%20y&flag&msg_signature="),
        ("/a%2Fb", "/a%2Fb?msg_signature="),
        ("/?", "/?msg_signature="),
        ("/c#part", "/c?msg_signature="),
    ] {
        let stored = subscriber(&receiver.url(path));
        receiver.add_app(Client::new(app.address, &stored, app.clock.clone()), TOKEN);
        insert(&app.pool, &stored).await;
        create(&app).await;
        worker(&app).await.drain().await.unwrap();
        let calls = receiver.take();
        let targets: Vec<&String> = calls.iter().map(|call| &call.target).collect();
        assert!(targets.iter().any(|target| target.starts_with(expected)), "{path}: {targets:?}");
    }
}
