//! Filters of streams: each stream has the changes that its filter selects, as pages do.

use std::time::Duration;

use muster::domain::Permission;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{EVENTS, EventReader, open_http2, page};
use crate::feed::complete_feed;
use crate::harness::{BUIN, spawn_app, store};
use crate::v1::{create_session, result, send};

#[tokio::test(flavor = "multi_thread")]
async fn live_changes_are_selected_as_in_pages() {
    let app = spawn_app().await;
    let (client, other_key) = app.another_app(BUIN, &[Permission::SessionsWrite]).await;
    let (first, body) = create_session(&app, &["alice", "bob", "carol", "dave"]).await;
    let id = body["sessionId"].as_str().unwrap().trim_matches(['{', '}']).to_owned();
    complete_feed(&app.pool).await;
    let queries = [
        "member=bob".to_owned(),
        "member=erin".to_owned(),
        "owner=alice".to_owned(),
        "owner=bob".to_owned(),
        format!("sessionId={id}"),
        format!("sessionId={id}&member=bob&kind=updated"),
        "kind=created".to_owned(),
        format!("app={}", client.app_id),
        format!("app={}&kind=updated", client.app_id),
        "member=bob&owner=bob".to_owned(),
        "member=nobody".to_owned(),
        String::new(),
    ];
    let mut readers = Vec::new();
    for (index, query) in queries.iter().enumerate() {
        let path = format!("{EVENTS}?{query}");
        let mut reader = match index % 2 {
            0 => EventReader::open(&app, &path).await,
            _ => open_http2(&app, &path).await,
        };
        let start = reader.bookmark().await.id;
        readers.push((query, reader, start));
    }
    let (second, _) = create_session(&app, &["erin", "frank", "grace"]).await;
    let change = async |path: &str, operator: &str, change: Value| {
        let mut body = change;
        body["operator"] = json!(operator);
        result(send(&app, Method::PATCH, path, &body).await).await;
    };
    change(&first, "alice", json!({ "title": "one" })).await;
    // The change that removes a member belongs to it, and the later ones do not.
    change(&first, "alice", json!({ "delMember": ["bob"] })).await;
    change(&first, "alice", json!({ "title": "two" })).await;
    change(&first, "alice", json!({ "addMember": ["bob", "erin"] })).await;
    change(&first, "alice", json!({ "owner": "bob" })).await;
    change(&first, "bob", json!({ "title": "three" })).await;
    change(&second, "erin", json!({ "title": "four", "addMember": ["alice"] })).await;
    let body = json!({ "operator": "erin", "title": "five" });
    let by_other = app.client.request(Method::PATCH, &second).bearer_auth(&other_key).json(&body);
    assert_eq!(by_other.send().await.unwrap().status(), 200);
    complete_feed(&app.pool).await;
    let mut counts = Vec::new();
    for (query, mut reader, start) in readers {
        let (expected, found) = page(&app, &format!("after={start}&{query}")).await;
        assert_eq!((&found["headSeq"], &found["caughtUp"]), (&json!(10), &json!(true)));
        counts.push(expected.len());
        for event in &expected {
            assert_eq!(reader.change().await.data, *event, "{query}");
        }
        // The next event is a bookmark, behind the changes that do not match.
        let bookmark = reader.bookmark().await;
        let (more, found) = page(&app, &format!("after={}&{query}", bookmark.id)).await;
        assert_eq!((more.len(), &found["nextCursor"]), (0, &json!(bookmark.id)), "{query}");
    }
    assert_eq!(counts, [5, 6, 5, 2, 6, 5, 1, 1, 1, 2, 0, 9]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_has_the_changes_of_its_enterprise_only() {
    let app = spawn_app().await;
    let permissions = [Permission::SessionsRead, Permission::SessionsWrite];
    let (_, foreign_key) = app.another_app(BUIN + 1, &permissions).await;
    let (session, body) = create_session(&app, &["alice", "bob", "carol"]).await;
    let id = body["sessionId"].as_str().unwrap().trim_matches(['{', '}']).to_owned();
    complete_feed(&app.pool).await;
    let mut own = EventReader::open(&app, EVENTS).await;
    own.bookmark().await;
    let mut foreign = Vec::new();
    for query in ["", "?member=alice", "?kind=updated", &format!("?sessionId={id}")] {
        let request = app.client.request(Method::GET, &format!("{EVENTS}{query}"));
        let mut reader = EventReader::from_request(request.bearer_auth(&foreign_key)).await;
        reader.bookmark().await;
        foreign.push(reader);
    }
    super::rename(&app, &session, "t").await;
    assert_eq!(own.change().await.seq(), 2);
    let body = json!({ "operator": "alice", "title": "t", "member": ["alice", "bob", "carol"] });
    let create = app.client.request(Method::POST, "/v1/sessions").bearer_auth(&foreign_key);
    result(create.json(&body).send().await.unwrap()).await;
    for reader in &mut foreign[..2] {
        assert_eq!(reader.change().await.seq(), 1);
    }
    for reader in &mut foreign[2..] {
        reader.bookmark().await;
    }
    // A stream with the permission to read only.
    let (_, writer) = app.another_app(BUIN, &[Permission::SessionsWrite]).await;
    let refused = app.client.request(Method::GET, EVENTS).bearer_auth(writer);
    let refused = refused.header("accept", super::MEDIA_TYPE).send().await.unwrap();
    assert_eq!(refused.status(), 403);
}

/// A list would be compared one by one, for each member of each changed session.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_of_all_filters_are_found_in_a_hash_table() {
    let app = spawn_app().await;
    let types = "bigint[], uuid[], bigint[], text[]";
    let arguments = "'{1}', array[gen_random_uuid()], '{1}', '{alice,bob}'";
    let plan = store::generic_plan(&app, "array_agg(account) filter", types, arguments).await;
    assert_eq!(plan.matches("hashed SubPlan").count(), 3, "{plan}");
}

/// The roles of accounts in the changes of other servers are read from a table.
#[tokio::test(flavor = "multi_thread")]
async fn change_of_this_server_reaches_its_streams_without_a_query_for_roles() {
    let app = spawn_app().await;
    let members = ["alice", "bob", "carol"];
    create_session(&app, &members).await;
    complete_feed(&app.pool).await;
    let mut is_found = false;
    // The database is asked for a change that gets its number before the server has noted it. This is
    // rare, and then the next attempt counts.
    for _ in 0..5 {
        let (_, found) = page(&app, "after=0&member=alice").await;
        let cursor = found["nextCursor"].as_str().unwrap();
        let path = format!("{EVENTS}?after={cursor}&member=alice");
        let mut reader = EventReader::open(&app, &path).await;
        for _ in 0..2 {
            create_session(&app, &members).await;
            reader.change().await;
        }
        store::hide_role_changes(&app, true).await;
        create_session(&app, &members).await;
        let change = async {
            while let Ok(Some(event)) = reader.try_next().await {
                if event.name != "bookmark" {
                    return event.name == "change";
                }
            }
            false
        };
        is_found = timeout(Duration::from_secs(10), change).await.unwrap_or_default();
        store::hide_role_changes(&app, false).await;
        complete_feed(&app.pool).await;
        if is_found {
            break;
        }
    }
    assert!(is_found);
}
