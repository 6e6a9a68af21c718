//! The content of a stream: each change once, in order, and the same bytes as pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::{Method, Version};
use serde_json::json;

use super::{EVENTS, EventReader, http2, open_http2, page, rename};
use crate::feed::complete_feed;
use crate::harness::{spawn_app, store};
use crate::v1::{create_session, get, problem, request, result, send};

#[tokio::test(flavor = "multi_thread")]
async fn resumed_stream_has_no_gap_and_no_repeat_while_two_servers_write() {
    const SESSIONS: usize = 12;
    const TITLES: usize = 8;
    let app = Arc::new(spawn_app().await);
    let (address, _shutdown_signal) = app.another_instance().await;
    let bases = [format!("http://{}", app.address), format!("http://{address}")];
    let has_ended = Arc::new(AtomicBool::new(false));
    let writers = bases.clone().map(|base| {
        let app = app.clone();
        tokio::spawn(async move {
            for _ in 0..SESSIONS {
                let (path, _) = create_session(&app, &["alice", "bob", "carol"]).await;
                for number in 0..TITLES {
                    let body = json!({ "operator": "alice", "title": format!("title {number}") });
                    let request = app.client.http.patch(format!("{base}{path}"));
                    let request = request.bearer_auth(&app.api_key).json(&body);
                    result(request.send().await.unwrap()).await;
                }
            }
        })
    });
    let ending = has_ended.clone();
    let all = tokio::spawn(async move {
        for writer in writers {
            writer.await.unwrap();
        }
        ending.store(true, Ordering::SeqCst);
    });
    let expected = 2 * SESSIONS * (1 + TITLES);
    let clients = [app.client.http.clone(), http2()];
    let (mut found, mut last_id, mut connections) = (Vec::new(), None::<String>, 0);
    while found.len() < expected {
        // The servers and the versions of HTTP take turns.
        let (base, client) = (&bases[connections % 2], &clients[connections / 2 % 2]);
        connections += 1;
        let mut request = client.get(format!("{base}{EVENTS}?after=0")).bearer_auth(&app.api_key);
        if let Some(id) = &last_id {
            request = request.header("last-event-id", id);
        }
        let mut reader = EventReader::from_request(request).await;
        for _ in 0..17.min(expected - found.len()) {
            let event = reader.change().await;
            found.push(event.json());
            last_id = Some(event.id);
        }
    }
    all.await.unwrap();
    assert!(has_ended.load(Ordering::SeqCst) && connections > 10, "{connections}");
    let rows = complete_feed(&app.pool).await;
    assert_eq!(rows.len(), expected);
    for (row, event) in rows.iter().zip(&found) {
        assert_eq!(event["seq"], row.seq, "{event}");
        assert_eq!(event["prevSeq"], row.seq - 1, "{event}");
        assert_eq!(event["version"], row.version, "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_have_the_same_bytes_in_pages_and_streams() {
    let app = spawn_app().await;
    let mut live = EventReader::open(&app, EVENTS).await;
    let first = live.bookmark().await;
    assert_eq!(live.comments, 1, "the first part is a comment");
    let (path, _) = create_session(&app, &["alice", "bob", "carol"]).await;
    for body in [
        json!({ "title": "<&> \"quoted\" \\ \u{E9} \u{1F600}" }),
        json!({ "addMember": ["dave"], "delMember": ["carol"], "reason": "moved" }),
        json!({ "owner": "bob", "attributes": { "nested": { "list": [1, null, "x"] } } }),
    ] {
        let mut body = body;
        body["operator"] = json!("alice");
        result(send(&app, Method::PATCH, &path, &body).await).await;
    }
    let mut streamed = Vec::new();
    for _ in 0..4 {
        streamed.push(live.change().await);
    }
    let texts: Vec<&str> = streamed.iter().map(|event| event.data.as_str()).collect();
    let (paged, body) = page(&app, &format!("after={}", first.id)).await;
    assert_eq!(texts, paged);
    assert_eq!(body["nextCursor"], streamed[3].id);
    let mut from_begin = open_http2(&app, &format!("{EVENTS}?after=0")).await;
    for event in &streamed {
        assert_eq!(from_begin.change().await, *event, "read from the database");
    }
    // With the session after the change, in both.
    let mut with_session = EventReader::open(&app, &format!("{EVENTS}?include=session")).await;
    with_session.bookmark().await;
    rename(&app, &path, "after").await;
    let event = with_session.change().await;
    assert_eq!(event.json()["session"], get(&app, &path).await);
    let (paged, _) = page(&app, &format!("after={}&include=session", streamed[3].id)).await;
    assert_eq!(paged, [event.data]);
    assert_eq!(live.change().await.json()["version"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn burst_of_changes_arrives_once_and_in_order() {
    // More changes than a read, a queue or a page of the stream has.
    const COUNT: usize = 1_300;
    let app = spawn_app().await;
    let mut readers = [EventReader::open(&app, EVENTS).await, open_http2(&app, EVENTS).await];
    for reader in &mut readers {
        reader.bookmark().await;
    }
    let mut locked = store::lock_feed(&app).await;
    let member = json!(["alice", "bob", "carol"]);
    let create = json!({ "create": { "operator": "alice", "title": "t", "member": member } });
    for _ in 0..COUNT / 100 {
        let body = json!({ "items": vec![create.clone(); 100] });
        result(send(&app, Method::POST, "/v1/sessions/batch", &body).await).await;
    }
    store::unlock(&mut locked).await;
    for reader in &mut readers {
        for seq in 1..=COUNT {
            let event = reader.change().await.json();
            assert_eq!(event["seq"], seq);
            assert_eq!(event["prevSeq"], seq - 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn request_for_a_stream_is_checked() {
    let app = spawn_app().await;
    create_session(&app, &["alice", "bob", "carol"]).await;
    let stream = |method: Method, query: &str| {
        let path = format!("{EVENTS}{query}");
        request(&app, method, &path).header("accept", "text/event-stream")
    };
    for (query, id, code, field) in [
        ("?wait=1s", None, "invalid_parameter", "wait"),
        ("?wait=61s", None, "invalid_parameter", "wait"),
        ("?after=x", None, "invalid_parameter", "after"),
        ("?limit=0", None, "invalid_parameter", "limit"),
        ("?colour=red", None, "unknown_parameter", "colour"),
        ("", Some("0"), "invalid_header", "Last-Event-ID"),
    ] {
        let mut request = stream(Method::GET, query);
        if let Some(id) = id {
            request = request.header("last-event-id", id);
        }
        let (status, found, rest) = problem(request.send().await.unwrap()).await;
        let expected = (400, code, &json!(field));
        assert_eq!((status, found.as_str(), &rest["field"]), expected, "{query}");
    }
    let head = stream(Method::HEAD, "").send().await.unwrap();
    assert_eq!((head.status().as_u16(), head.version()), (200, Version::HTTP_11));
    assert_eq!(head.headers()["content-type"], "text/event-stream");
    // nginx reads this header, and does not pass it on.
    assert_eq!(head.headers()["x-accel-buffering"], "no");
    // The id wins over `after`, and a page ignores it.
    let mut reader = EventReader::from_request(stream(Method::GET, "?after=0")).await;
    let created = reader.change().await;
    let mut resumed = EventReader::from_request(
        stream(Method::GET, "?after=0").header("last-event-id", &created.id),
    )
    .await;
    assert_eq!(resumed.bookmark().await.id, created.id);
    let request = request(&app, Method::GET, &format!("{EVENTS}?after=0"));
    let found = result(request.header("last-event-id", &created.id).send().await.unwrap()).await;
    assert_eq!(found["events"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshot_as_a_stream_is_followed_by_the_changes() {
    const COUNT: usize = 120;
    let app = spawn_app().await;
    let mut paths = Vec::new();
    for _ in 0..COUNT {
        paths.push(create_session(&app, &["alice", "bob", "carol"]).await.0);
    }
    complete_feed(&app.pool).await;
    let path = format!("{EVENTS}?snapshot=true");
    let mut reader = EventReader::open(&app, &path).await;
    let mut sessions = Vec::new();
    let mut resume_at = String::new();
    let end = loop {
        let event = reader.next().await.unwrap();
        match event.name.as_str() {
            "session" => sessions.push(event.json()["sessionId"].as_str().unwrap().to_owned()),
            "snapshotEnd" => break event,
            _ => panic!("{event:?}"),
        }
        if sessions.len() == COUNT / 2 {
            resume_at = event.id;
        }
    };
    assert_eq!(end.json(), json!({ "cursor": end.id }));
    assert_eq!(sessions.len(), COUNT);
    rename(&app, &paths[0], "after the snapshot").await;
    let change = reader.change().await;
    assert_eq!(change.json()["seq"], COUNT + 1);
    // The first half is not sent again.
    let resumed = request(&app, Method::GET, &path).header("last-event-id", resume_at);
    let mut resumed = EventReader::from_request(resumed).await;
    for id in &sessions[COUNT / 2..] {
        assert_eq!(resumed.next().await.unwrap().json()["sessionId"], *id);
    }
    assert_eq!(resumed.next().await.unwrap().name, "snapshotEnd");
    assert_eq!(resumed.change().await, change);
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_continues_after_the_database_was_away() {
    let app = spawn_app().await;
    let (path, _) = create_session(&app, &["alice", "bob", "carol"]).await;
    complete_feed(&app.pool).await;
    let mut reader = EventReader::open(&app, EVENTS).await;
    reader.bookmark().await;
    for number in 0..5 {
        // The reader of the server begins again on another connection.
        store::end_all_backends(&app).await;
        let body = json!({ "operator": "alice", "title": format!("t {number}") });
        while send(&app, Method::PATCH, &path, &body).await.status() != 200 {}
        let event = reader.change().await.json();
        assert_eq!((&event["seq"], &event["prevSeq"]), (&json!(number + 2), &json!(number + 1)));
    }
}
