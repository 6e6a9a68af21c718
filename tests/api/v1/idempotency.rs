//! `Idempotency-Key`: a repeated request is done once.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use super::{create_session, get, problem, request, result, send};
use crate::harness::client::Client;
use crate::harness::process::{Home, http};
use crate::harness::{BUIN, TestApp, spawn_app, spawn_app_with, store, wait_until};

fn new(title: &str) -> Value {
    json!({ "operator": "a", "title": title, "member": ["b", "c"] })
}

fn named(app: &TestApp, method: Method, path: &str, key: &str) -> RequestBuilder {
    request(app, method, path).header("Idempotency-Key", key)
}

/// The status, the headers `ETag` and `Location`, whether the answer is a replay, and the body.
async fn answer(builder: RequestBuilder) -> (u16, [Option<String>; 2], bool, String) {
    let response = builder.send().await.unwrap();
    let header =
        |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (headers, replayed) =
        ([header("etag"), header("location")], header("idempotency-replayed"));
    assert!(replayed.as_deref().is_none_or(|replayed| replayed == "true"));
    let status = response.status().as_u16();
    (status, headers, replayed.is_some(), response.text().await.unwrap())
}

async fn count(app: &TestApp) -> i64 {
    store::count_sessions(&app.pool).await
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_request_gets_the_same_answer() {
    let app = spawn_app().await;
    let create = || named(&app, Method::POST, "/v1/sessions", "c").json(&new("first"));
    let created = answer(create()).await;
    assert_eq!((created.0, created.2), (201, false));
    let path = created.1[1].clone().unwrap();
    let body = |body: Value| move |builder: RequestBuilder| builder.json(&body);
    type Add = Box<dyn Fn(RequestBuilder) -> RequestBuilder>;
    let calls: [(Method, &str, Add); 8] = [
        (Method::PATCH, "", Box::new(body(json!({ "operator": "a", "title": "after" })))),
        (
            Method::PUT,
            "/members",
            Box::new(body(json!({ "operator": "a", "member": ["a", "b", "c", "d"] }))),
        ),
        (Method::PUT, "/members/e", Box::new(body(json!({ "operator": "a" })))),
        (Method::DELETE, "/members/d?operator=a", Box::new(|builder| builder)),
        (Method::POST, "/revert", Box::new(body(json!({ "operator": "a", "version": 2 })))),
        (Method::DELETE, "?operator=a", Box::new(|builder| builder)),
        (Method::POST, "/restore", Box::new(body(json!({ "operator": "a" })))),
        // The answer to a change without effect is stored as well.
        (Method::PATCH, "", Box::new(body(json!({ "operator": "a", "title": "after" })))),
    ];
    let nth_call = |place: usize| {
        let (method, call, add) = &calls[place];
        add(named(&app, method.clone(), &format!("{path}{call}"), &format!("k{place}")))
    };
    let mut answers = Vec::new();
    for place in 0..calls.len() {
        app.clock.advance(Duration::from_secs(5));
        answers.push(answer(nth_call(place)).await);
        assert_eq!((answers[place].0, answers[place].2), (200, false), "{}", answers[place].3);
    }
    for (place, first) in answers.iter().enumerate() {
        let again = answer(nth_call(place)).await;
        assert!(again.2, "{place}");
        assert_eq!((&again.1, &again.3), (&first.1, &first.3), "{place}");
    }
    let again = answer(create()).await;
    assert_eq!((again.0, &again.1, again.2, &again.3), (201, &created.1, true, &created.3));
    assert_eq!((get(&app, &path).await["version"].as_i64(), count(&app).await), (Some(8), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn key_is_refused_for_another_request() {
    let app = spawn_app().await;
    let (path, _) = create_session(&app, &["a", "b", "c"]).await;
    result(named(&app, Method::POST, "/v1/sessions", "k").json(&new("t")).send().await.unwrap())
        .await;
    for builder in [
        named(&app, Method::POST, "/v1/sessions", "k").json(&new("other")),
        named(&app, Method::PATCH, &path, "k").json(&json!({ "operator": "a", "title": "t" })),
        named(&app, Method::DELETE, &format!("{path}?operator=a"), "k"),
    ] {
        let (status, code, rest) = problem(builder.send().await.unwrap()).await;
        let found = (status, code.as_str(), &rest["field"]);
        assert_eq!(found, (422, "idempotency_key_reused", &json!("Idempotency-Key")));
    }
    let (status, code, _) = problem(
        named(&app, Method::POST, "/v1/sessions", "a b").json(&new("t")).send().await.unwrap(),
    )
    .await;
    assert_eq!((status, code.as_str()), (400, "invalid_header"));
    assert_eq!((get(&app, &path).await["version"].as_i64(), count(&app).await), (Some(1), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_request_does_not_use_its_key() {
    let app = spawn_app().await;
    let too_few = json!({ "operator": "a", "title": "t", "member": [] });
    let builder = named(&app, Method::POST, "/v1/sessions", "k").json(&too_few);
    assert_eq!(problem(builder.send().await.unwrap()).await.0, 422);
    let builder = named(&app, Method::POST, "/v1/sessions", "k").json(&new("t"));
    assert_eq!(builder.send().await.unwrap().status(), StatusCode::CREATED);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_per_app_and_last_a_day() {
    let app = spawn_app().await;
    let (_, other) = app.another_app(BUIN, &[muster::domain::Permission::SessionsWrite]).await;
    let create_with = async |key: &str| {
        let builder = app.client.request(Method::POST, "/v1/sessions").bearer_auth(key);
        answer(builder.header("Idempotency-Key", "k").json(&new("t"))).await
    };
    let first = create_with(&app.api_key).await;
    let foreign = create_with(&other).await;
    assert!(!foreign.2);
    assert_ne!(first.3, foreign.3);
    app.clock.advance(Duration::from_secs(24 * 3600 - 1));
    assert!(create_with(&app.api_key).await.2);
    app.clock.advance(Duration::from_secs(1));
    let later = create_with(&app.api_key).await;
    assert!(!later.2);
    assert_ne!(later.1, first.1);
    assert_eq!(count(&app).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_retries_create_one_session() {
    let app = spawn_app().await;
    let (address, _shutdown_signal) = app.another_instance().await;
    let clients = [app.client.clone(), app.client.at(address)];
    let requests = (0..200).map(|place| {
        let builder = clients[place % 2].request(Method::POST, "/v1/sessions");
        answer(builder.bearer_auth(&app.api_key).header("Idempotency-Key", "storm").json(&new("t")))
    });
    let answers = join_all(requests).await;
    let equal: HashSet<_> =
        answers.iter().map(|(status, headers, _, body)| (status, headers, body)).collect();
    assert_eq!(equal.len(), 1, "{equal:?}");
    assert_eq!(answers[0].0, 201);
    assert_eq!(
        answers.iter().filter(|answer| !answer.2).count(),
        1,
        "exactly one answer is not a replay"
    );
    assert_eq!(count(&app).await, 1);
    let events = store::count_events(&app.pool).await;
    assert_eq!(events, 1);
    // Many equal changes with one key are one change.
    let path = answers[0].1[1].clone().unwrap();
    let requests = (0..200).map(|place| {
        let builder = clients[place % 2].request(Method::PATCH, &path).bearer_auth(&app.api_key);
        let body = json!({ "operator": "a", "title": "after" });
        answer(builder.header("Idempotency-Key", "change").json(&body))
    });
    let answers = join_all(requests).await;
    let equal: HashSet<_> =
        answers.iter().map(|(status, headers, _, body)| (status, headers, body)).collect();
    assert_eq!(equal.len(), 1, "{equal:?}");
    assert_eq!(get(&app, &path).await["version"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn request_batched_with_a_duplicate_succeeds() {
    // All changes share one queue, and this server notices the writes of another server late.
    let app = spawn_app_with(|settings| {
        settings.server.workers = 1;
        settings.cache.follow_interval = Duration::from_secs(60);
    })
    .await;
    let (address, _shutdown_signal) = app.another_instance().await;
    let (first_server, second_server) = (app.client.clone(), app.client.at(address));
    let (path, _) = create_session(&app, &["a", "b", "c"]).await;
    let (other, locked_session) = create_session(&app, &["a", "b", "c"]).await;
    let change = |client: &Client, path: &str, title: &str| {
        let builder = client.request(Method::PATCH, path).bearer_auth(&app.api_key);
        builder.json(&json!({ "operator": "a", "title": title }))
    };
    let named = || change(&first_server, &path, "named").header("Idempotency-Key", "k");
    assert_eq!(answer(change(&first_server, &other, "other")).await.0, 200);
    // The lock blocks every change of the other session.
    let id = locked_session["sessionId"].as_str().unwrap();
    let mut lock = store::lock_session(store::connect(&app).await, id).await;
    let blocked = tokio::spawn(answer(change(&first_server, &other, "blocked")));
    store::wait_for_blocked_statement(&mut store::connect(&app).await).await;
    // These requests wait and form one batch. The server decides on its cached version, which is
    // outdated at that time.
    let mut others = Vec::new();
    let mut retries = Vec::new();
    for number in 0..8 {
        others.push(tokio::spawn(answer(change(&first_server, &path, &format!("here {number}")))));
        if number % 4 == 2 {
            retries.push(tokio::spawn(answer(named())));
        }
    }
    assert_eq!(answer(change(&second_server, &path, "there")).await.0, 200);
    store::unlock(&mut lock).await;
    assert_eq!(blocked.await.unwrap().0, 200);
    let mut replayed = 0;
    for retry in retries {
        let retry = retry.await.unwrap();
        assert_eq!(retry.0, 200, "{retry:?}");
        replayed += i32::from(retry.2);
    }
    assert_eq!(replayed, 1);
    for other in others {
        let other = other.await.unwrap();
        assert_eq!((other.0, other.2), (200, false), "{other:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_survive_a_killed_server() {
    let home = Home::with_database();
    let key = home.api_key();
    let http = http();
    let storm = |base: String| {
        let (http, key) = (http.clone(), key.clone());
        async move {
            let requests = (0..100).map(|_| {
                let builder = http.post(format!("{base}/v1/sessions")).bearer_auth(&key);
                let builder = builder.header("Idempotency-Key", "storm").json(&new("t")).send();
                async {
                    let response = builder.await.ok()?;
                    let status = response.status().as_u16();
                    Some((status, response.text().await.ok()?))
                }
            });
            join_all(requests).await.into_iter().flatten().collect::<Vec<_>>()
        }
    };
    let mut answers = Vec::new();
    for _ in 0..2 {
        let server = home.serve();
        let answering = tokio::spawn(storm(server.url("")));
        let mut connection = home.connect().await;
        // The server is killed as soon as the session exists, before or after its answers.
        wait_until("a session", async || store::count_sessions(&mut connection).await > 0).await;
        server.kill();
        answers.extend(answering.await.unwrap());
    }
    let server = home.serve();
    let last = storm(server.url("")).await;
    assert_eq!(last.len(), 100);
    answers.extend(last);
    let equal: HashSet<_> = answers.into_iter().collect();
    assert_eq!(equal.len(), 1, "{equal:?}");
    assert_eq!(equal.iter().next().unwrap().0, 201);
    let mut connection = home.connect().await;
    assert_eq!(store::count_sessions(&mut connection).await, 1);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_condition_is_another_request() {
    const CONDITIONS: [&[(&str, &str)]; 9] = [
        &[],
        &[("If-Match", "\"1\"")],
        &[("If-Match", "*")],
        &[("If-Match", "\"1\", \"99\"")],
        &[("If-Match", "\"1\", W/\"1\"")],
        &[("If-None-Match", "\"99\"")],
        &[("If-None-Match", "\"98\"")],
        &[("If-Match", "\"1\""), ("If-None-Match", "\"99\"")],
        &[("If-Match", "*"), ("If-None-Match", "\"99\"")],
    ];
    // Conditions that do not hold, and hold no more after the change.
    const FALSE: [&[(&str, &str)]; 5] = [
        &[("If-Match", "\"99\"")],
        &[("If-Match", "W/\"1\"")],
        &[("If-Match", "")],
        &[("If-None-Match", "*")],
        &[("If-None-Match", "\"1\", \"2\", \"3\"")],
    ];
    let app = spawn_app().await;
    for method in [Method::PATCH, Method::DELETE] {
        for (place, first) in CONDITIONS.iter().enumerate() {
            let (path, _) = create_session(&app, &["a", "b", "c"]).await;
            let change = |headers: &[(&str, &str)]| {
                let (url, body) = match method {
                    Method::PATCH => (path.clone(), json!({ "operator": "a", "title": "two" })),
                    _ => (format!("{path}?operator=a"), Value::Null),
                };
                let builder = named(&app, method.clone(), &url, &format!("{method}{place}"));
                let builder = headers
                    .iter()
                    .fold(builder, |builder, (name, value)| builder.header(*name, *value));
                if body.is_null() { builder } else { builder.json(&body) }
            };
            // A condition that does not hold uses no key.
            for headers in FALSE {
                assert_eq!(
                    problem(change(headers).send().await.unwrap()).await.0,
                    412,
                    "{headers:?}"
                );
            }
            let done = answer(change(first)).await;
            assert_eq!((done.0, done.2), (200, false), "{}", done.3);
            for (other_place, other) in CONDITIONS.iter().enumerate() {
                if other_place == place {
                    let again = answer(change(other)).await;
                    assert_eq!((again.0, again.2, &again.3), (200, true, &done.3), "{other:?}");
                    continue;
                }
                let (status, code, _) = problem(change(other).send().await.unwrap()).await;
                assert_eq!(
                    (status, &*code),
                    (422, "idempotency_key_reused"),
                    "{first:?}, {other:?}"
                );
            }
            for headers in FALSE {
                let (status, code, _) = problem(change(headers).send().await.unwrap()).await;
                assert_eq!((status, &*code), (422, "idempotency_key_reused"), "{headers:?}");
            }
            assert_eq!(get(&app, &path).await["version"], 2);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_conditions_are_the_same_request() {
    let app = spawn_app().await;
    let (path, _) = create_session(&app, &["a", "b", "c"]).await;
    let change = |headers: &[(&str, &str)]| {
        let builder = named(&app, Method::PATCH, &path, "k");
        let builder =
            headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
        builder.json(&json!({ "operator": "a", "title": "two" }))
    };
    let done = answer(change(&[("If-Match", "\"1\", \"7\"")])).await;
    assert_eq!((done.0, done.2), (200, false), "{}", done.3);
    for same in [
        &[("If-Match", "\"7\",\"1\"")][..],
        &[("If-Match", "\"1\""), ("If-Match", "\"7\"")],
        // The tags replace the date.
        &[("If-Match", "\"1\", \"7\""), ("If-Unmodified-Since", "Mon, 10 Jun 2019 06:13:20 GMT")],
    ] {
        let again = answer(change(same)).await;
        assert_eq!((again.0, again.2, &again.3), (200, true, &done.3), "{same:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn if_match_does_not_break_a_retry() {
    let app = spawn_app().await;
    let (path, _) = create_session(&app, &["a", "b", "c"]).await;
    let update = || {
        let builder = named(&app, Method::PATCH, &path, "k").header("If-Match", "\"1\"");
        builder.json(&json!({ "operator": "a", "title": "two" }))
    };
    let first = answer(update()).await;
    let body = json!({ "operator": "a", "title": "three" });
    result(send(&app, Method::PATCH, &path, &body).await).await;
    let again = answer(update()).await;
    assert_eq!((again.0, again.2, again.3), (200, true, first.3));
}
