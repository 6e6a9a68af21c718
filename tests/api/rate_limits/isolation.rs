//! A request is not harmed by the other requests in its statement.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{
    Reply, cgi, new_rest_session, new_session, until_locked, until_queued, with_long_timeouts,
    with_one_connection,
};
use crate::harness::{TestApp, refusal, spawn_app_with, store};

/// Creates three sessions.
async fn three_sessions(app: &TestApp) -> [Value; 3] {
    let [one, two, three] = [0; 3].map(|_| app.session(&["a", "b", "c"]));
    [one.await, two.await, three.await]
}

fn ids(sessions: &[Value; 3]) -> [String; 3] {
    sessions
        .each_ref()
        .map(|session| session["sessionId"].as_str().unwrap().trim_matches(['{', '}']).to_owned())
}

/// Creates three sessions, makes the second one unreadable, and returns their ids.
async fn sessions_with_an_unreadable_one(app: &TestApp) -> [String; 3] {
    let ids = ids(&three_sessions(app).await);
    store::set_oversized_title(app, &ids[1]).await;
    ids
}

/// Gives a session a title that no session has.
async fn rename(app: &TestApp, id: &str) -> Reply {
    update_title(app, id, &format!("{:x}", rand::random::<u64>())).await
}

async fn update_title(app: &TestApp, id: &str, title: &str) -> Reply {
    let update = json!({ "sessionId": id, "opUser": "a", "title": title });
    cgi(app, "update", "", Some(update)).await
}

/// The replies to three requests that share a statement, because all arrive while the statement
/// before them runs.
async fn send_together(
    app: &TestApp,
    kind: &str,
    ids: &[String; 3],
    send: impl AsyncFn(&str) -> Reply,
) -> [Reply; 3] {
    let locked = store::lock_sessions(app).await;
    send_together_until(app, kind, ids, send, async || drop(locked)).await
}

/// The same with a lock that `unlock` releases.
async fn send_together_until(
    app: &TestApp,
    kind: &str,
    ids: &[String; 3],
    send: impl AsyncFn(&str) -> Reply,
    unlock: impl AsyncFnOnce(),
) -> [Reply; 3] {
    let (first, one, two, three, ()) = tokio::join!(
        send(&ids[0]),
        async {
            until_locked(app).await;
            send(&ids[0]).await
        },
        async {
            until_queued(app, kind, 1).await;
            send(&ids[1]).await
        },
        async {
            until_queued(app, kind, 2).await;
            send(&ids[2]).await
        },
        async {
            until_queued(app, kind, 3).await;
            unlock().await;
        }
    );
    assert_eq!(first.status, 200, "{first:?}");
    [one, two, three]
}

fn assert_internal_error(reply: &Reply) {
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.body, refusal(-1, "internal error"), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_session_does_not_fail_other_reads() {
    let app = spawn_app_with(with_one_connection).await;
    let ids = sessions_with_an_unreadable_one(&app).await;
    let get = async |id: &str| cgi(&app, "get", &format!("&sessionId={id}"), None).await;
    let [one, unreadable, three] = send_together(&app, "read", &ids, get).await;
    assert_eq!([&one.body["version"], &three.body["version"]], [1, 1], "{one:?} {three:?}");
    assert_internal_error(&unreadable);
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_session_does_not_fail_other_changes() {
    let app = spawn_app_with(with_one_connection).await;
    let ids = sessions_with_an_unreadable_one(&app).await;
    let rename = async |id: &str| rename(&app, id).await;
    let [one, unreadable, three] = send_together(&app, "update", &ids, rename).await;
    assert_eq!([&one.body["version"], &three.body["version"]], [3, 2], "{one:?} {three:?}");
    assert_internal_error(&unreadable);
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_session_does_not_block_other_changes() {
    let app = spawn_app_with(|settings| {
        with_one_connection(settings);
        // All other requests are sent while the first waits, even on a busy machine.
        settings.database.statement_timeout = Duration::from_secs(5);
    })
    .await;
    let sessions = three_sessions(&app).await;
    let ids = ids(&sessions);
    let mut locked = store::lock_session(store::connect(&app).await, &ids[1]).await;
    store::lock_all_sessions(&mut locked).await;

    // The update of the third session changes nothing.
    let unchanged_title = sessions[2]["title"].as_str().unwrap();
    let update = async |id: &str| match id == ids[2] {
        true => update_title(&app, id, unchanged_title).await,
        false => rename(&app, id).await,
    };
    let unlock_all_sessions = async || store::unlock_all_sessions(&mut locked).await;
    let [one, blocked, unchanged] =
        send_together_until(&app, "update", &ids, update, unlock_all_sessions).await;
    assert_eq!(one.body["version"], 3, "{one:?}");
    let expected = (&json!(0), &json!(1));
    assert_eq!((&unchanged.body["errcode"], &unchanged.body["version"]), expected);
    assert_eq!((blocked.status, blocked.retry_after), (503, Some(1)), "{blocked:?}");
    let errmsg = "the service is too slow, nothing was done, try again";
    assert_eq!(blocked.body, refusal(-1, errmsg));
    // Until here the second session was locked.
    store::unlock(&mut locked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn update_without_a_change_does_not_wait_for_a_locked_session() {
    let app = spawn_app_with(|settings| {
        with_one_connection(settings);
        with_long_timeouts(settings);
        // With a statement of its own, each update waits for the one before.
        settings.database.max_batch = 64;
    })
    .await;
    let sessions = three_sessions(&app).await;
    let ids = ids(&sessions);
    let unchanged_title = sessions[2]["title"].as_str().unwrap();
    let mut locked = store::lock_session(store::connect(&app).await, &ids[1]).await;
    store::lock_all_sessions(&mut locked).await;

    // The second session stays locked until the third update is answered. If that update waited
    // for the statement of the others, the statement would time out.
    let answered = Notify::new();
    let [one, blocked, unchanged] = send_together_until(
        &app,
        "update",
        &ids,
        async |id| {
            if id != ids[2] {
                return rename(&app, id).await;
            }
            let reply = update_title(&app, id, unchanged_title).await;
            answered.notify_one();
            reply
        },
        async || {
            store::unlock_all_sessions(&mut locked).await;
            answered.notified().await;
            store::unlock(&mut locked).await;
        },
    )
    .await;
    assert_eq!((one.status, &one.body["version"]), (200, &json!(3)), "{one:?}");
    assert_eq!((blocked.status, &blocked.body["version"]), (200, &json!(2)), "{blocked:?}");
    let expected = (&json!(0), &json!(1));
    assert_eq!((&unchanged.body["errcode"], &unchanged.body["version"]), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn used_idempotency_key_does_not_fail_other_creates() {
    let app = spawn_app_with(with_one_connection).await;
    let create = async |key: &str| {
        let request = app.client.request(Method::POST, "/v1/sessions").bearer_auth(&app.api_key);
        let request = request.header("Idempotency-Key", key).json(&new_rest_session());
        Reply::from_response(request.send().await.unwrap()).await
    };
    let before = create("used").await;
    let keys = ["first", "used", "new"].map(str::to_owned);
    let locked = store::lock_sessions(&app).await;
    let send = async |key: &str| match key {
        // The statement before the shared one.
        "first" => cgi(&app, "create", "", Some(new_session())).await,
        key => create(key).await,
    };
    let [_, used, new] =
        send_together_until(&app, "create", &keys, send, async || drop(locked)).await;
    assert_eq!(used.body, before.body);
    assert_eq!(new.status, 201, "{new:?}");
    assert_ne!(new.body["sessionId"], used.body["sessionId"]);
    assert_eq!(store::count_sessions(&app.pool).await, 4);
}
