//! The `app` and `delivery` commands for callbacks, with the real binary.

use serde_json::{Value, json};

use super::description;
use super::process::{Home, Server, wait_for};
use super::receiver::{Receiver, reply_with};
use crate::harness::process::{WAIT_TIMEOUT, plain_http};

async fn post(server: &Server, home: &Home, path: &str, body: &Value) -> Value {
    let url = format!("{}/cgi/session/{path}?accessToken={}", server.url, home.api_key());
    let client = plain_http().build().unwrap();
    let answer = client.post(url).body(body.to_string()).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["errcode"], 0, "{answer}");
    answer
}

async fn create(server: &Server, home: &Home) -> String {
    let body = json!({ "title": "t", "creator": "a", "member": ["b", "c"] });
    post(server, home, "create", &body).await["sessionId"].as_str().unwrap().to_owned()
}

async fn rename(server: &Server, home: &Home, id: &str, title: &str) {
    let body = json!({ "sessionId": id, "opUser": "a", "title": title });
    post(server, home, "update", &body).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_commands_work_with_a_running_server() {
    let (home, receiver) = (Home::new(), Receiver::start().await);
    let server = home.serve().await;
    let stored = home.subscribe(&receiver).await;
    let app_id = stored.app.app_id.as_str();
    let selector = ["--buin", "14731009", "--app-id", app_id];
    let app = async |command: &str, more: &[&str]| {
        home.run(&[&["app", command][..], &selector, more].concat()).await
    };
    let list = async |more: &[&str]| {
        let list = home.run(&[&["delivery", "list", "--json"], more].concat()).await.json();
        list.as_array().unwrap().clone()
    };

    // A test callback bypasses the queue.
    let output = app("test-callback", &[]).await;
    assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{}", output.stdout);
    for part in
        [&receiver.url("/"), "status    200", "response  \"ok\"", "the receiver acknowledged it"]
    {
        assert!(output.stdout.contains(part), "{part}: {}", output.stdout);
    }
    let [call] = receiver.take().try_into().unwrap();
    let message: Value = serde_json::from_str(&call.message).unwrap();
    assert_eq!(message["msgType"], "muster_test");
    assert_eq!(message["version"], 0);
    assert_eq!(message["sessionId"], "{00000000-0000-0000-0000-000000000000}");
    assert!(list(&[]).await.is_empty(), "the queue has no test callback");

    // A delivered callback is listed and shown.
    let id = create(&server, &home).await;
    wait_for("delivered", WAIT_TIMEOUT, async || list(&["--state", "delivered"]).await.len() == 1)
        .await;
    let [call] = receiver.take().try_into().unwrap();
    let delivery = call.headers["x-muster-delivery"].clone();
    let [listed] = list(&["--app-id", app_id, "--session", &id]).await.try_into().unwrap();
    assert_eq!(
        (&listed["id"], &listed["sessionId"], &listed["version"], &listed["attempts"]),
        (&json!(delivery), &json!(id), &json!(1), &json!(1))
    );
    let text = home.run(&["delivery", "list"]).await.stdout;
    let mut lines = text.lines();
    assert!(lines.next().unwrap().starts_with("STATE"), "{text}");
    let line = lines.next().unwrap();
    assert!(line.starts_with("delivered") && line.ends_with(&delivery), "{text}");
    let receiver_origin = receiver.url("");
    assert!(line.contains(&format!("  {receiver_origin}  -  ")), "{text}");
    assert_eq!(
        (&listed["receiver"], &listed["lastError"]),
        (&json!(receiver_origin), &json!(null))
    );
    let text = home.run(&["delivery", "show", &delivery]).await.stdout;
    assert!(text.contains("state         delivered"), "{text}");
    assert!(text.contains(", status 200: acknowledged, response \"ok\""), "{text}");

    // A failed attempt is shown.
    receiver.script(|_| reply_with(503, "back soon"));
    rename(&server, &home, &id, "t2").await;
    rename(&server, &home, &id, "t3").await;
    wait_for("two attempts", WAIT_TIMEOUT, async || receiver.calls().len() >= 2).await;
    let pending = list(&["--state", "pending"]).await;
    assert!(pending.iter().chain(&list(&["--state", "leased"]).await).count() >= 1);
    let second = delivery.replace(".1.", ".2.");
    let failing = list(&[]).await.into_iter().find(|listed| listed["id"] == second).unwrap();
    assert_eq!(failing["receiver"], receiver_origin, "{failing}");
    assert_eq!(failing["lastError"], "HTTP status 503", "{failing}");
    let text = home.run(&["delivery", "list"]).await.stdout;
    let line = text.lines().find(|line| line.ends_with(&second)).unwrap();
    assert!(line.contains(&format!("  {receiver_origin}  HTTP status 503  ")), "{text}");
    let text = home.run(&["delivery", "show", &second]).await.stdout;
    assert!(text.contains(&format!("receiver      {receiver_origin}")), "{text}");
    let shown = home.run(&["delivery", "show", &second, "--json"]).await.json();
    assert_eq!(shown["attemptDetails"][0]["status"], 503, "{shown}");
    assert_eq!(shown["attemptDetails"][0]["error"], "HTTP status 503", "{shown}");
    assert_eq!(shown["attemptDetails"][0]["response"], "back soon", "{shown}");
    let output = app("test-callback", &[]).await;
    assert_eq!(output.code, 1);
    assert!(
        output.stderr.contains("did not acknowledge the test callback: HTTP status 503"),
        "{}",
        output.stderr
    );
    let output = app("test-callback", &["--json"]).await;
    let printed: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((output.code, &printed["acknowledged"]), (1, &json!(false)), "{printed}");

    // The callbacks of a paused app are kept and not sent.
    assert_eq!(app("pause-callbacks", &["--json"]).await.json()["callbacksPaused"], true);
    wait_for("no attempt in flight", WAIT_TIMEOUT, async || {
        list(&["--state", "leased"]).await.is_empty()
    })
    .await;
    receiver.take();
    receiver.recover();
    rename(&server, &home, &id, "t4").await;
    let text = app("show", &[]).await.stdout;
    assert!(text.contains("callbacks       paused"), "{text}");
    let fourth = delivery.replace(".1.", ".4.");
    let text = home.run(&["delivery", "show", &fourth]).await.stdout;
    assert!(text.contains("withheld      callbacks are paused"), "{text}");
    let tested = app("test-callback", &[]).await.stdout;
    assert!(tested.contains("but real callbacks are not sent: callbacks are paused"), "{tested}");
    // Several commands have run meanwhile. Only the test callback arrived.
    let calls = receiver.take();
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert!(calls[0].headers["x-muster-delivery"].starts_with("test-"));
    description::check(&calls[0]);
    assert_eq!(app("resume-callbacks", &["--json"]).await.json()["callbacksPaused"], false);
    wait_for("four delivered callbacks", WAIT_TIMEOUT, async || {
        list(&["--state", "delivered"]).await.len() == 4
    })
    .await;
    assert_eq!(receiver.versions(), [2, 3, 4]);

    // A replay sends callbacks again.
    let output = home.run(&["delivery", "replay", &delivery]).await;
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (0, "callbacks to be sent again: 1\n"),
        "{}",
        output.stderr
    );
    wait_for("the replayed callback", WAIT_TIMEOUT, async || receiver.calls().len() == 1).await;
    assert_eq!(receiver.versions(), [1]);
    wait_for("four delivered callbacks", WAIT_TIMEOUT, async || {
        list(&["--state", "delivered"]).await.len() == 4
    })
    .await;
    let replay =
        ["delivery", "replay", "--app-id", app_id, "--state", "delivered", "--session", &id];
    let output = home.run(&[&replay[..], &["--json"]].concat()).await;
    assert_eq!(output.json(), json!({ "replayed": 4 }));
    wait_for("four replayed callbacks", WAIT_TIMEOUT, async || receiver.calls().len() == 4).await;
    assert_eq!(receiver.versions(), [1, 2, 3, 4]);
    let output = home.run(&["delivery", "replay", "--app-id", app_id, "--json"]).await;
    assert_eq!(output.json(), json!({ "replayed": 0 }), "the default is failed deliveries only");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_commands_work_without_a_server() {
    let (home, receiver) = (Home::new(), Receiver::start().await);
    let server = home.serve().await;
    let stored = home.subscribe(&receiver).await;
    let app_id = stored.app.app_id.as_str();
    let id = create(&server, &home).await;
    wait_for("a callback", WAIT_TIMEOUT, async || !receiver.calls().is_empty()).await;
    server.stop().await;
    let delivery = receiver.take()[0].headers["x-muster-delivery"].clone();

    let text = home.run(&["delivery", "show", &delivery]).await;
    assert!(text.stdout.contains("attempt 1: "), "{}{}", text.stdout, text.stderr);
    let selector = ["--buin", "14731009", "--app-id", app_id];
    assert_eq!(home.run(&[&["app", "test-callback"][..], &selector].concat()).await.code, 0);
    assert_eq!(receiver.take().len(), 1);
    let replay = ["delivery", "replay", "--app-id", app_id, "--state", "delivered", "--json"];
    for (more, replayed) in [
        (["--until", "2020-01-01T00:00:00Z"], 0),
        (["--since", "2999-01-01T00:00:00+08:00"], 0),
        (["--since", "2020-01-01T00:00:00Z"], 1),
    ] {
        let output = home.run(&[&replay[..], &more].concat()).await;
        assert_eq!(output.json(), json!({ "replayed": replayed }), "{more:?}");
    }
    let list = home.run(&["delivery", "list", "--state", "pending", "--json"]).await.json();
    assert_eq!(list[0]["id"], delivery);
    assert!(list[0]["nextAttemptAt"].is_string(), "{list}");

    // Each error explains the mistake or names a remedy.
    let unknown = delivery.replace(".1.", ".9.");
    for (args, code, expected) in [
        (vec!["delivery", "show", &unknown], 1, "`muster delivery list` lists"),
        (vec!["delivery", "replay", &unknown], 1, "there is no such callback"),
        (vec!["delivery", "replay", "--app-id", "x"], 1, "there is no app x"),
        (vec!["delivery", "show", "7"], 2, "SESSION.VERSION.APP"),
        (vec!["delivery", "replay"], 2, "<ID>"),
        (vec!["delivery", "replay", "--app-id", "x", "--state", "leased"], 2, "cannot be replayed"),
        (vec!["delivery", "replay", "--app-id", "x", "--since", "monday"], 2, "--since"),
        (
            vec!["delivery", "replay", "--app-id", "x", "--until", "yesterday"],
            2,
            "such as 2024-06-10T06:13:20Z, 2024-06-10T06:13:20.5Z or 2024-06-10T08:13:20+02:00",
        ),
        (vec!["delivery", "replay", &delivery, "--app-id", "x"], 2, "cannot be used with"),
        (vec!["delivery", "list", "--state", "lost"], 2, "pending, leased, delivered or failed"),
        (vec!["delivery", "list", "--session", "x"], 2, "--session"),
        (vec!["app", "test-callback", "--buin", "1", "--app-id", "x"], 1, "muster app list"),
        (vec!["app", "pause-callbacks", "--buin", "1", "--app-id", "x"], 1, "muster app list"),
    ] {
        let output = home.run(&args).await;
        assert_eq!(output.code, code, "{args:?}: {}", output.stderr);
        assert!(output.stderr.contains(expected), "{args:?}: {}", output.stderr);
        assert_eq!(output.stdout, "", "{args:?}");
    }
    let update = [&["app", "update"][..], &selector, &["--no-callback"]].concat();
    assert_eq!(home.run(&update).await.code, 0);
    let output = home.run(&[&["app", "test-callback"][..], &selector].concat()).await;
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("--callback-url"), "{}", output.stderr);

    // A new server sends the replayed callbacks after the URL is set again.
    let url = receiver.url("/");
    let update = [&["app", "update"][..], &selector, &["--callback-url", &url]].concat();
    let token = ["--callback-token", super::TOKEN];
    assert_eq!(home.run(&[&update[..], &token].concat()).await.code, 0);
    let server = home.serve().await;
    wait_for("a callback", WAIT_TIMEOUT, async || !receiver.calls().is_empty()).await;
    assert_eq!(receiver.calls()[0].session, id);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_receiver_is_a_warning_but_not_one_per_attempt() {
    let (home, receiver) = (Home::new(), Receiver::start().await);
    let server = home.serve().await;
    let stored = home.subscribe(&receiver).await;
    receiver.script(|_| reply_with(500, ""));
    for _ in 0..3 {
        create(&server, &home).await;
    }
    wait_for("many attempts", WAIT_TIMEOUT, async || receiver.calls().len() >= 25).await;
    receiver.recover();
    wait_for("the recovery", WAIT_TIMEOUT, async || home.log().contains("callbacks arrive again"))
        .await;
    let attempts = receiver.calls().len();
    server.stop().await;
    let log = home.log();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("callbacks fail")).collect();
    assert!(!warnings.is_empty() && warnings.len() <= attempts / 5, "{attempts}: {warnings:#?}");
    for part in ["WARN", stored.app.app_id.as_str(), "HTTP status 500", "failed_attempts"] {
        assert!(warnings[0].contains(part), "{part}: {}", warnings[0]);
    }
}
