//! A request is not harmed by the other requests in its statement.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::{Reply, cgi, narrow, new_rest_session, new_session, until_locked, until_queued};
use crate::harness::{TestApp, refusal, spawn_app_with, store, unshared};

/// Creates three sessions, makes the second one unreadable, and returns their ids.
async fn sessions_with_an_unreadable_one(app: &TestApp) -> [String; 3] {
    let [one, bad, three] = [0; 3].map(|_| async {
        let session = app.session(&["a", "b", "c"]).await;
        session["sessionId"].as_str().unwrap().trim_matches(['{', '}']).to_owned()
    });
    let ids = [one.await, bad.await, three.await];
    store::spoil_title(app, &ids[1]).await;
    ids
}

/// The replies to three requests that share a statement, because all arrive while the statement
/// before them runs.
async fn send_together(
    app: &TestApp,
    kind: &str,
    ids: &[String; 3],
    ask: impl AsyncFn(&str) -> Reply,
) -> [Reply; 3] {
    let locked = store::lock_sessions(app).await;
    send_together_until(app, kind, ids, ask, async || drop(locked)).await
}

/// The same with a lock that `unlock` releases.
async fn send_together_until(
    app: &TestApp,
    kind: &str,
    ids: &[String; 3],
    ask: impl AsyncFn(&str) -> Reply,
    unlock: impl AsyncFnOnce(),
) -> [Reply; 3] {
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
            unlock().await;
        }
    );
    assert_eq!(first.status, 200, "{first:?}");
    [one, bad, three]
}

fn is_internal_error(reply: &Reply) {
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.body, refusal(-1, "internal error"), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_session_does_not_fail_other_reads() {
    let app = spawn_app_with(narrow).await;
    let ids = sessions_with_an_unreadable_one(&app).await;
    let get = async |id: &str| cgi(&app, "get", &format!("&sessionId={id}"), None).await;
    let [one, bad, three] = send_together(&app, "read", &ids, get).await;
    assert_eq!([&one.body["version"], &three.body["version"]], [1, 1], "{one:?} {three:?}");
    is_internal_error(&bad);
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_session_does_not_fail_other_changes() {
    let app = spawn_app_with(narrow).await;
    let ids = sessions_with_an_unreadable_one(&app).await;
    let update = async |id: &str| {
        let title = Value::from(format!("{:?}", std::time::Instant::now()));
        let update = json!({ "sessionId": id, "opUser": "a", "title": title });
        cgi(&app, "update", "", Some(update)).await
    };
    let [one, bad, three] = send_together(&app, "update", &ids, update).await;
    assert_eq!([&one.body["version"], &three.body["version"]], [3, 2], "{one:?} {three:?}");
    is_internal_error(&bad);
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_session_does_not_block_other_changes() {
    let app = spawn_app_with(|settings| {
        narrow(settings);
        // All other requests are sent while the first waits, even on a busy machine.
        settings.database.statement_timeout = Duration::from_secs(5);
    })
    .await;
    let [one, held, same] = [0; 3].map(|_| app.session(&["a", "b", "c"]));
    let sessions = [one.await, held.await, same.await];
    let ids = sessions.each_ref().map(|session| session["sessionId"].as_str().unwrap().to_owned());
    let mut locked = store::lock_session(store::connect(&app).await, &ids[1]).await;
    store::lock_others(&mut locked).await;

    let update = async |id: &str| {
        // The update of the last session changes nothing.
        let title = match id == ids[2] {
            true => sessions[2]["title"].clone(),
            false => Value::from(format!("{:?}", Instant::now())),
        };
        let update = json!({ "sessionId": id, "opUser": "a", "title": title });
        cgi(&app, "update", "", Some(update)).await
    };
    let answered = RefCell::new(Vec::new());
    let [one, held, same] = send_together_until(
        &app,
        "update",
        &ids,
        async |id| {
            let reply = update(id).await;
            answered.borrow_mut().push(id.to_owned());
            reply
        },
        async || store::unlock_others(&mut locked).await,
    )
    .await;
    assert_eq!(one.body["version"], 3, "{one:?}");
    assert_eq!((held.status, held.retry_after), (503, Some(1)), "{held:?}");
    let errmsg = "the service is too slow, nothing was done, try again";
    assert_eq!(held.body, refusal(-1, errmsg));
    assert_eq!((&same.body["errcode"], &same.body["version"]), (&json!(0), &json!(1)), "{same:?}");
    // Where each has a statement to himself, he waits for his turn all the same.
    // The responses of the first request and of this one leave together, in any order.
    if !unshared() {
        let first = &answered.borrow()[..2];
        assert!(
            first.contains(&ids[2]),
            "an update without a change waits for no other: {first:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn used_idempotency_key_does_not_fail_other_creates() {
    let app = spawn_app_with(narrow).await;
    let create = async |key: &str| {
        let began = Instant::now();
        let request = app.client.request(Method::POST, "/v1/sessions").bearer_auth(&app.api_key);
        let request = request.header("Idempotency-Key", key).json(&new_rest_session());
        Reply::from_response(began, request.send().await.unwrap()).await
    };
    let before = create("used").await;
    let keys = ["first", "used", "new"].map(str::to_owned);
    let locked = store::lock_sessions(&app).await;
    let ask = async |key: &str| match key {
        // The statement before the shared one.
        "first" => cgi(&app, "create", "", Some(new_session())).await,
        key => create(key).await,
    };
    let [_, used, new] =
        send_together_until(&app, "create", &keys, ask, async || drop(locked)).await;
    assert_eq!(used.body, before.body);
    assert_eq!(new.status, 201, "{new:?}");
    assert_ne!(new.body["sessionId"], used.body["sessionId"]);
    assert_eq!(store::count_sessions(&app.pool).await, 4);
}
