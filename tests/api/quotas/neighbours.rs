//! Who shares a statement does not suffer from what the others are about.

use muster::config::Settings;
use serde_json::{Value, json};
use sqlx::Executor as _;

use super::{Told, cgi, lock, outside, until_locked, until_queued};
use crate::harness::{TestApp, refusal, spawn_app_with};

/// All go to the database, on one thread.
fn narrow(settings: &mut Settings) {
    settings.server.workers = 1;
    settings.cache.enabled = false;
    settings.delivery.enabled = false;
    settings.metrics.bind = Some("127.0.0.1:0".to_owned());
}

/// Three sessions, the second of which is none any more; their ids.
async fn sessions_with_a_bad_one(app: &TestApp) -> [String; 3] {
    let [one, bad, three] = [0; 3].map(|_| async {
        let session = app.session(&["a", "b", "c"]).await;
        session["sessionId"].as_str().unwrap().trim_matches(['{', '}']).to_owned()
    });
    let ids = [one.await, bad.await, three.await];
    let sql = "update session set title = repeat('x', 1000) where session_id = $1::uuid";
    outside(app).await.execute(sqlx::query(sql).bind(&ids[1])).await.unwrap();
    ids
}

/// What is told of each, when all are asked for while the statement before is under way.
async fn at_once(
    app: &TestApp,
    kind: &str,
    ids: &[String; 3],
    ask: impl AsyncFn(&str) -> Told,
) -> [Told; 3] {
    let locked = lock(app).await;
    let (first, one, bad, three, ()) = tokio::join!(
        ask(&ids[0]),
        async {
            until_locked(app).await;
            ask(&ids[0]).await
        },
        async {
            until_queued(app, kind, 1).await;
            ask(&ids[1]).await
        },
        async {
            until_queued(app, kind, 2).await;
            ask(&ids[2]).await
        },
        async {
            until_queued(app, kind, 3).await;
            drop(locked);
        }
    );
    assert_eq!(first.status, 200, "{first:?}");
    [one, bad, three]
}

fn is_told_that_it_is_bad(told: &Told) {
    assert_eq!(told.status, 200, "{told:?}");
    assert_eq!(told.body, refusal(-1, "internal error"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_cannot_be_read_spoils_no_other_read() {
    let app = spawn_app_with(narrow).await;
    let ids = sessions_with_a_bad_one(&app).await;
    let get = async |id: &str| cgi(&app, "get", &format!("&sessionId={id}"), None).await;
    let [one, bad, three] = at_once(&app, "read", &ids, get).await;
    assert_eq!([&one.body["version"], &three.body["version"]], [1, 1], "{one:?} {three:?}");
    is_told_that_it_is_bad(&bad);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_cannot_be_read_spoils_no_other_change() {
    let app = spawn_app_with(narrow).await;
    let ids = sessions_with_a_bad_one(&app).await;
    let update = async |id: &str| {
        let title = Value::from(format!("{:?}", std::time::Instant::now()));
        let update = json!({ "sessionId": id, "opUser": "a", "title": title });
        cgi(&app, "update", "", Some(update)).await
    };
    let [one, bad, three] = at_once(&app, "update", &ids, update).await;
    assert_eq!([&one.body["version"], &three.body["version"]], [3, 2], "{one:?} {three:?}");
    is_told_that_it_is_bad(&bad);
}
