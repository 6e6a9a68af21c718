//! Each request gets a response before its deadline, even if the database hangs, and changes
//! nothing afterwards.

use std::time::Duration;

use futures_util::future::join;
use muster::config::Settings;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Reply, cgi, new_rest_session, new_session, rest, until_locked, until_queued};
use crate::harness::process::WAIT_TIMEOUT;
use crate::harness::proxy::Proxy;
use crate::harness::store::{
    count_sessions, lock_consumers, lock_sessions, overwrite_session, running_statements,
};
use crate::harness::{
    TestApp, refusal, server, settings, spawn, spawn_app_with, store, wait_until,
};
use crate::metrics::scrape;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);

/// Waits for responses while the database is blocked until they have arrived. So the service ends
/// each wait by itself. The limit is for a service that does not.
async fn within_limit<T>(responses: impl Future<Output = T>) -> T {
    timeout(WAIT_TIMEOUT, responses).await.expect("no response while the database is blocked")
}

/// Waits until no statement runs, while the sessions are still locked. PostgreSQL reports the error of
/// a statement a moment before it shows its end.
async fn until_statements_end(app: &TestApp) {
    wait_until("every statement has ended", async || running_statements(app).await.is_empty())
        .await;
}

/// Every request reads the database, and nothing else does.
fn with_short_deadline(settings: &mut Settings) {
    settings.server.request_timeout = REQUEST_TIMEOUT;
    settings.cache.enabled = false;
    settings.delivery.enabled = false;
}

/// Sends one call of each kind.
async fn call_all_kinds(app: &TestApp, session: &Value) -> (Vec<Reply>, Vec<Reply>) {
    let id = session["sessionId"].as_str().unwrap().trim_matches(['{', '}']);
    let query = format!("&sessionId={id}");
    let path = format!("/v1/sessions/{id}");
    let members = format!("{path}/members");
    let update = json!({ "sessionId": id, "opUser": "a", "title": "late" });
    let patch = json!({ "operator": "a", "title": "late" });
    let batch = json!({ "items": [{ "create": new_rest_session() }] });
    let ((c1, c2, c3), (r1, r2, r3, r4, r5, r6)) = tokio::join!(
        async {
            tokio::join!(
                cgi(app, "create", "", Some(new_session())),
                cgi(app, "get", &query, None),
                cgi(app, "update", "", Some(update)),
            )
        },
        async {
            tokio::join!(
                rest(app, Method::POST, "/v1/sessions", Some(new_rest_session())),
                rest(app, Method::GET, &path, None),
                rest(app, Method::PATCH, &path, Some(patch)),
                rest(app, Method::GET, "/v1/sessions", None),
                rest(app, Method::GET, &members, None),
                rest(app, Method::POST, "/v1/sessions/batch", Some(batch)),
            )
        }
    );
    let error = r6.body["items"][0]["error"].clone();
    assert_eq!(r6.status, 200, "{r6:?}");
    let item = Reply { status: 503, retry_after: Some(1), body: error };
    (vec![c1, c2, c3], vec![r1, r2, r3, r4, r5, item])
}

#[tokio::test(flavor = "multi_thread")]
async fn blocked_database_is_reported_in_time_without_late_writes() {
    let app = spawn_app_with(with_short_deadline).await;
    let session = app.session(&["a", "b", "c"]).await;
    let locked = lock_sessions(&app).await;
    let (cgi, rest) = within_limit(call_all_kinds(&app, &session)).await;
    for reply in cgi.iter().chain(&rest) {
        assert_eq!((reply.status, reply.retry_after), (503, Some(1)), "{reply:?}");
    }
    let errmsg = "the service is too slow, nothing was done, try again";
    for reply in cgi {
        assert_eq!(reply.body, refusal(-1, errmsg));
    }
    for reply in rest {
        assert_eq!(
            (&reply.body["code"], &reply.body["detail"]),
            (&json!("unavailable"), &json!(errmsg))
        );
    }
    until_statements_end(&app).await;
    drop(locked);
    // A refused request is not executed later.
    assert_eq!(app.current(&session).await, session);
    app.session(&["a", "b", "c"]).await;
    assert_eq!(count_sessions(&app.pool).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn request_that_cannot_start_in_time_is_not_started() {
    let app = spawn_app_with(|settings| {
        with_short_deadline(settings);
        settings.database.max_batch = 1;
        settings.server.workers = 1;
    })
    .await;
    let locked = lock_sessions(&app).await;
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let (client, key) = (app.client.clone(), app.api_key.clone());
        calls.spawn(async move {
            let path = format!("/cgi/session/create?accessToken={key}");
            Reply::from_response(client.post(&path, new_session().to_string()).await).await
        });
    }
    for reply in within_limit(calls.join_all()).await {
        assert_eq!((reply.status, &reply.body["errcode"]), (503, &json!(-1)), "{reply:?}");
    }
    until_statements_end(&app).await;
    drop(locked);
    app.session(&["a", "b", "c"]).await;
    assert_eq!(count_sessions(&app.pool).await, 1, "a refused request is not executed later");
}

/// Stalls the connections to the database when a statement of the service waits for the lock.
async fn stall(app: &TestApp, proxy: &Proxy) {
    until_locked(app).await;
    proxy.stall();
}

async fn spawn_behind_a_proxy(change: impl FnOnce(&mut Settings)) -> (TestApp, Proxy) {
    let mut settings = settings();
    change(&mut settings);
    let database = server::database().await;
    let proxy = Proxy::on_unix_socket(&database.options);
    (spawn(settings, database, |options| proxy.options_through(options)).await, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_outcome_is_reported() {
    let (app, proxy) = spawn_behind_a_proxy(with_short_deadline).await;
    app.session(&["a", "b", "c"]).await;
    let locked = lock_sessions(&app).await;
    let create = cgi(&app, "create", "", Some(new_session()));
    let (reply, ()) = within_limit(join(create, stall(&app, &proxy))).await;
    assert_eq!((reply.status, reply.retry_after), (504, Some(1)), "{reply:?}");
    let errmsg = "no response in time; the outcome is unknown";
    assert_eq!(reply.body, refusal(-1, errmsg));
    drop(locked);
}

/// The time within which a statement must start.
const START_DEADLINE: Duration = Duration::from_secs(8);

/// One thread. Its statements start within [`START_DEADLINE`].
fn with_one_thread(settings: &mut Settings) {
    with_short_deadline(settings);
    settings.server.request_timeout = 2 * START_DEADLINE;
    settings.server.workers = 1;
    settings.database.acquire_timeout = 2 * START_DEADLINE;
    settings.metrics.bind = Some("127.0.0.1:0".to_owned());
}

/// Sends three requests of a kind. The first is in a statement when the connection to the database
/// is lost. The second waits for a new connection until its deadline. The third arrives later,
/// waits together with the second, and is served.
async fn with_late_request(
    (app, proxy): &(TestApp, Proxy),
    kind: &str,
    send: impl AsyncFn(u32) -> Reply,
) -> [Reply; 3] {
    let locked = lock_sessions(app).await;
    let (lost, late, served, ()) = tokio::join!(
        send(0),
        async {
            until_locked(app).await;
            let reply = within_limit(send(1)).await;
            proxy.resume();
            drop(locked);
            reply
        },
        async {
            until_queued(app, kind, 1).await;
            tokio::time::sleep(START_DEADLINE / 2).await;
            send(2).await
        },
        async {
            until_queued(app, kind, 2).await;
            // The running statement is lost, and no new connection can be opened for a while.
            proxy.stall();
            proxy.break_connections();
        },
    );
    assert_eq!(lost.status, 504, "{lost:?}");
    assert_eq!((late.status, late.retry_after), (503, Some(1)), "{late:?}");
    assert_eq!((served.status, &served.body["errcode"]), (200, &json!(0)), "{served:?}");
    [lost, late, served]
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_statement_keeps_each_requests_deadline() {
    let proxied = spawn_behind_a_proxy(with_one_thread).await;
    proxied.0.session(&["a", "b", "c"]).await;
    with_late_request(&proxied, "create", async |_| {
        cgi(&proxied.0, "create", "", Some(new_session())).await
    })
    .await;
}

/// Waits until the cache serves a session. It is empty at the start.
async fn until_cached(app: &TestApp, session: &Value) {
    let hits = async || scrape(app).await.has("muster_cache_hits_total");
    let before = hits().await;
    wait_until("a hit", async || {
        app.current(session).await;
        hits().await > before
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn remaining_requests_of_a_batch_are_decided_on_current_state() {
    let proxied = spawn_behind_a_proxy(|settings| {
        with_one_thread(settings);
        // This server does not see the changes of other servers.
        settings.cache.enabled = true;
        settings.cache.follow_interval = Duration::from_secs(60);
    })
    .await;
    let app = &proxied.0;
    let sessions = [app.session(&["a", "b", "c"]).await, app.session(&["a", "b", "c"]).await];
    for session in &sessions {
        until_cached(app, session).await;
    }
    let title = sessions[1]["title"].clone();
    let id = sessions[1]["sessionId"].as_str().unwrap();
    overwrite_session(app, id, "theirs").await;

    let [_, _, served] = with_late_request(&proxied, "update", async |number| {
        // In the cache the second session has this title already.
        let (session, title) = match number {
            0 => (&sessions[0], json!("lost")),
            _ => (&sessions[1], title.clone()),
        };
        let update = json!({ "sessionId": session["sessionId"], "opUser": "a", "title": title });
        cgi(app, "update", "", Some(update)).await
    })
    .await;
    assert_eq!((&served.body["version"], &served.body["title"]), (&json!(3), &title));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hang_ends_with_a_response() {
    let (app, proxy) = spawn_behind_a_proxy(|settings| {
        with_short_deadline(settings);
        // The timeout of the pool is longer.
        settings.server.request_timeout = Duration::from_secs(3);
    })
    .await;
    app.session(&["a", "b", "c"]).await;
    let locked = lock_sessions(&app).await;
    // Only the task of this request waits for this statement.
    let list = rest(&app, Method::GET, "/v1/sessions", None);
    let (reply, ()) = within_limit(join(list, stall(&app, &proxy))).await;
    assert_eq!((reply.status, reply.retry_after), (504, Some(1)), "{reply:?}");
    assert_eq!(reply.body["code"], "timed_out");
    assert_eq!(reply.body["detail"], "no response within 3s; try again");
    assert!(reply.body["requestId"].is_string(), "{reply:?}");
    drop(locked);
}

#[tokio::test(flavor = "multi_thread")]
async fn write_that_hangs_ends_with_a_response_that_calls_its_outcome_unknown() {
    let (app, proxy) = spawn_behind_a_proxy(|settings| {
        with_short_deadline(settings);
        // The timeout of the pool is longer.
        settings.server.request_timeout = Duration::from_secs(3);
    })
    .await;
    let locked = lock_consumers(&app).await;
    let put = rest(&app, Method::PUT, "/v1/consumers/mirror", Some(json!({})));
    let stalled = async {
        // Other tasks of the server read the table too, so the statement of the request is waited for.
        let mut connection = store::connect(&app).await;
        wait_until("the statement of the request", async || {
            store::has_statement(&mut connection, "set filter_member").await
        })
        .await;
        proxy.stall();
    };
    let (reply, ()) = within_limit(join(put, stalled)).await;
    assert_eq!((reply.status, reply.retry_after), (504, Some(1)), "{reply:?}");
    assert_eq!(
        (&reply.body["code"], &reply.body["detail"]),
        (&json!("timed_out"), &json!("no response within 3s; the outcome is unknown"))
    );
    drop(locked);
}
