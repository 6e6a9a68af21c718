//! The rows of the tables after creates and updates.

use std::time::Duration;

use chrono::{DateTime, Utc};
use muster::domain::Permission;
use serde_json::{Value, json};
use sqlx::FromRow;
use uuid::Uuid;

use crate::harness::{BUIN, TestApp, spawn_app, test_start_time, wait_until_equal};

#[derive(Debug, FromRow, PartialEq)]
struct Event {
    version: i64,
    kind: String,
    operator: String,
    app_id: String,
    title: String,
    owner: String,
    changes: Value,
    created_at: DateTime<Utc>,
}

fn uuid(session: &Value) -> Uuid {
    session["sessionId"].as_str().unwrap().trim_matches(['{', '}']).parse().unwrap()
}

async fn events(app: &TestApp, session: &Value) -> Vec<Event> {
    let sql = "select version, kind, operator, app_id, title, owner, changes, created_at \
               from session_event where session_id = $1 order by version";
    sqlx::query_as(sql).bind(uuid(session)).fetch_all(&app.pool).await.unwrap()
}

async fn count(app: &TestApp, table: &'static str) -> i64 {
    let sql = match table {
        "session" => "select count(*) from session",
        "session_member" => "select count(*) from session_member",
        "session_event" => "select count(*) from session_event",
        _ => panic!("{table}"),
    };
    sqlx::query_scalar(sql).fetch_one(&app.pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_is_one_event() {
    let app = spawn_app().await;
    let (other, other_key) = app.another_app(BUIN, &[Permission::SessionsWrite]).await;
    let session = app.session(&["a", "b", "c", "d"]).await;
    let mut expected = Vec::new();
    let mut event = |operator: &str, app_id: &str, title: &str, owner: &str, changes: Value| {
        let version = i64::try_from(expected.len()).unwrap() + 1;
        expected.push(Event {
            version,
            kind: if version == 1 { "created" } else { "updated" }.to_owned(),
            operator: operator.to_owned(),
            app_id: app_id.to_owned(),
            title: title.to_owned(),
            owner: owner.to_owned(),
            changes,
            created_at: test_start_time() + Duration::from_secs(10) * (expected.len() as u32),
        });
    };
    let own = app.client.app_id.as_str();
    let created = json!({ "title": "before", "owner": "a", "member": ["a", "b", "c", "d"] });
    event("a", own, "before", "a", created);

    let step = async |operator: &str, fields: Value| {
        app.clock.advance(Duration::from_secs(10));
        let changed = app.change(&session, operator, fields).await;
        assert_eq!(changed["errcode"], 0, "{changed}");
    };
    step("b", json!({ "title": "after" })).await;
    event("b", own, "after", "a", json!({ "title": "after" }));
    // An update to the present state is no change.
    let fields = json!({ "title": "after", "addMember": ["f", "b", "e"], "delMember": ["x", "d"] });
    step("a", fields).await;
    let effective = json!({ "addMember": ["f", "e"], "delMember": ["d"] });
    event("a", own, "after", "a", effective);
    step("a", json!({ "delMember": ["a"] })).await;
    event("a", own, "after", "b", json!({ "owner": "b", "delMember": ["a"] }));
    // Another app changes the session.
    app.clock.advance(Duration::from_secs(10));
    let body = json!({ "sessionId": session["sessionId"], "opUser": "e", "title": "\"'\\" });
    let path = format!("/cgi/session/update?accessToken={other_key}");
    assert!(other.post(&path, body.to_string()).await.status().is_success());
    event("e", &other.app_id, "\"'\\", "b", json!({ "title": "\"'\\" }));

    assert_eq!(events(&app, &session).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn update_without_effect_writes_no_event() {
    let app = spawn_app().await;
    let session = app.session(&["a", "b", "c"]).await;
    let before = events(&app, &session).await;
    app.clock.advance(Duration::from_secs(10));
    for (operator, fields, errcode) in [
        ("a", json!({}), 0),
        ("b", json!({ "title": "before", "addMember": ["a"], "delMember": ["x"] }), 0),
        ("x", json!({ "title": "after" }), 4),
        ("b", json!({ "title": "after", "delMember": ["a"] }), 4),
        ("a", json!({ "title": "after", "delMember": ["a"] }), 400_004),
        ("a", json!({ "title": "after", "version": 2 }), 400_009),
        ("a", json!({ "title": "after", "addMember": ["x\u{0}"] }), 100_003),
    ] {
        assert_eq!(app.change(&session, operator, fields).await["errcode"], errcode);
    }
    for body in [
        json!({ "title": "t", "creator": "a", "member": ["b"] }),
        json!({ "title": "", "creator": "a", "member": ["b", "c"] }),
    ] {
        assert_ne!(app.create(&body).await["errcode"], 0);
    }
    assert_eq!(events(&app, &session).await, before);
    assert_eq!(count(&app, "session").await, 1);
    assert_eq!(count(&app, "session_member").await, 3);
    assert_eq!(count(&app, "session_event").await, 1);
    assert_eq!(app.current(&session).await, session);
}

#[derive(Debug, FromRow, PartialEq)]
struct Member {
    account: String,
    buin: i64,
    joined_version: i64,
    position: i32,
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_members_are_ordered() {
    let app = spawn_app().await;
    let session = app.session(&["c", "b", "a"]).await;
    app.change(&session, "b", json!({ "title": "会", "addMember": ["z", "d"] })).await;
    app.clock.advance(Duration::from_secs(5));
    app.change(&session, "c", json!({ "delMember": ["c"], "addMember": ["e"] })).await;
    app.change(&session, "e", json!({ "addMember": ["c"] })).await;

    let sql = "select account, buin, joined_version, position from session_member \
               where session_id = $1 order by joined_version, position";
    let members: Vec<Member> =
        sqlx::query_as(sql).bind(uuid(&session)).fetch_all(&app.pool).await.unwrap();
    let member = |account: &str, joined_version, position| Member {
        account: account.to_owned(),
        buin: BUIN,
        joined_version,
        position,
    };
    assert_eq!(
        members,
        [
            member("b", 1, 1),
            member("a", 1, 2),
            member("z", 2, 0),
            member("d", 2, 1),
            member("e", 3, 0),
            member("c", 4, 0),
        ]
    );

    let sql = "select buin, title, owner, version, state, member_count, created_at, updated_at \
               from session where session_id = $1";
    type Row = (i64, String, String, i64, String, i32, DateTime<Utc>, DateTime<Utc>);
    let row: Row = sqlx::query_as(sql).bind(uuid(&session)).fetch_one(&app.pool).await.unwrap();
    let (created, changed) = (test_start_time(), test_start_time() + Duration::from_secs(5));
    let text = str::to_owned;
    assert_eq!(row, (BUIN, text("会"), text("b"), 4, text("active"), 6, created, changed));
    assert_eq!(app.current(&session).await["member"], json!(["b", "a", "z", "d", "e", "c"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_visible_to_another_instance() {
    let app = spawn_app().await;
    let session = app.session(&["a", "b", "c"]).await;
    let (address, _) = app.another_instance().await;
    let other_instance = app.client.at(address);
    let token = app.client.token().await;
    let id = session["sessionId"].as_str().unwrap();
    // A token of one instance is valid at the other.
    assert_eq!(other_instance.get_session(&token, id).await, session);
    let update = json!({ "sessionId": id, "opUser": "b", "title": "there" });
    let changed = other_instance.post_sealed(&token, "/cgi/session/update", &update).await;
    assert_eq!(changed["version"], 2, "{changed}");
    // The other instance sees the change within the follow interval.
    wait_until_equal(|| app.current(&session), &changed).await;
}
