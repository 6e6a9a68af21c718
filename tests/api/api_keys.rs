//! API keys with limits: an expiry, networks, and fewer permissions than their app. Their last use.

use std::time::Duration;

use chrono::{DateTime, Utc};
use muster::clock::Clock;
use muster::domain::{Actor, AppId, Buin, Permission, Permissions};
use muster::service::admin::apps::{self, AppChanges};
use muster::service::admin::keys::{self, ApiKeySummary, KeyLimits};
use muster::service::admin::{AdminContext, Error};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::process::{Home, http};
use crate::harness::server::database;
use crate::harness::{TestApp, keyring, spawn_app, spawn_app_with};
use crate::v1::problem;

const DAY: Duration = Duration::from_secs(86_400);

fn admin(app: &TestApp) -> AdminContext {
    let actor =
        Actor { user: "ann".to_owned(), sudo_user: None, host: "console".to_owned(), pid: 1 };
    AdminContext::new(app.pool.clone(), keyring(), actor, app.clock.clone())
}

fn app_of(app: &TestApp) -> (Buin, AppId) {
    (app.client.buin.to_string().parse().unwrap(), app.client.app_id.parse().unwrap())
}

/// A new key of the test app.
async fn key(app: &TestApp, limits: KeyLimits) -> String {
    let (admin, (buin, app_id)) = (admin(app), app_of(app));
    let created = keys::create(&admin, buin, &app_id, "limited", limits).await.unwrap();
    created.commit(&admin).await.unwrap().key.reveal().to_owned()
}

/// A request of each API with a key from an address: the errcode and its text, the status, the code and
/// its detail.
async fn ask(app: &TestApp, key: &str, from: &str) -> (i64, String, u16, String, String) {
    let id = "00000000-0000-7000-8000-000000000000";
    let path = format!("/cgi/session/get?sessionId={id}&accessToken={key}");
    let request = app.client.request(Method::GET, &path).header("x-forwarded-for", from);
    let cgi: Value = request.send().await.unwrap().json().await.unwrap();
    let request = app.client.request(Method::GET, &format!("/v1/sessions/{id}"));
    let request = request.bearer_auth(key).header("x-forwarded-for", from);
    let (status, code, rest) = problem(request.send().await.unwrap()).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (cgi["errcode"].as_i64().unwrap(), text(&cgi["errmsg"]), status, code, text(&rest["detail"]))
}

/// The result of a key that is accepted: there is no such session.
fn accepted() -> (i64, String, u16, String, String) {
    (
        400_003,
        "sessionId: no such session".to_owned(),
        404,
        "session_not_found".to_owned(),
        "sessionId: no such session".to_owned(),
    )
}

fn refused(
    errcode: i64,
    status: u16,
    code: &str,
    reason: &str,
) -> (i64, String, u16, String, String) {
    let field = if status == 401 { "Authorization: " } else { "" };
    (errcode, format!("accessToken: {reason}"), status, code.to_owned(), format!("{field}{reason}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn key_is_refused_from_its_expiry_on() {
    let app = spawn_app_with(|settings| settings.limits.max_failed_attempts = 2).await;
    let expires_at = Some(app.clock.now() + 90 * DAY);
    let limited = key(&app, KeyLimits { expires_at, ..KeyLimits::default() }).await;
    let unlimited = key(&app, KeyLimits::default()).await;
    assert_eq!(ask(&app, &limited, "203.0.113.9").await, accepted());
    app.clock.advance(90 * DAY - Duration::from_secs(1));
    assert_eq!(ask(&app, &limited, "203.0.113.9").await, accepted());
    app.clock.advance(Duration::from_secs(1));
    let expired = refused(100_002, 401, "invalid_api_key", "the API key has expired");
    // An expired key is no guess: no address must wait because of it.
    for _ in 0..5 {
        assert_eq!(ask(&app, &limited, "203.0.113.9").await, expired);
    }
    assert_eq!(ask(&app, &unlimited, "203.0.113.9").await, accepted());
    let (other, _) = app.another_instance().await;
    let path = format!("http://{other}/v1/sessions");
    let response = app.client.http.get(path).bearer_auth(&limited).send().await.unwrap();
    assert_eq!(response.status(), 401, "a server that starts later refuses it too");
}

#[tokio::test(flavor = "multi_thread")]
async fn key_is_refused_from_other_networks() {
    let app = spawn_app_with(|settings| {
        settings.limits.max_failed_attempts = 2;
        settings.server.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    })
    .await;
    let networks = ["10.0.0.0/8", "2001:db8::/48", "203.0.113.7/32"];
    let networks = networks.map(|network| network.parse().unwrap()).to_vec();
    let limited = key(&app, KeyLimits { networks, ..KeyLimits::default() }).await;
    for from in
        ["10.9.8.7", "2001:db8:0:1::5", "203.0.113.7", "::ffff:10.0.0.1", "::ffff:cb00:7107"]
    {
        assert_eq!(ask(&app, &limited, from).await, accepted(), "{from}");
    }
    let reason = "the API key may not be used from this network";
    for from in ["11.0.0.1", "2001:db8:1::5", "203.0.113.8", "::1", "not an address"] {
        for _ in 0..3 {
            let foreign = refused(3, 401, "invalid_api_key", reason);
            assert_eq!(ask(&app, &limited, from).await, foreign, "{from}");
        }
    }
    // The client cannot choose its address: only the entry of the proxy counts.
    let forged = refused(3, 401, "invalid_api_key", reason);
    assert_eq!(ask(&app, &limited, "10.9.8.7, 198.51.100.1").await, forged);
    assert_eq!(ask(&app, &app.api_key, "198.51.100.1").await, accepted(), "other keys are free");
}

#[tokio::test(flavor = "multi_thread")]
async fn key_has_at_most_the_permissions_of_its_app() {
    let app = spawn_app().await;
    let (admin, (buin, app_id)) = (admin(&app), app_of(&app));
    let permissions = Some(vec![Permission::SessionsRead]);
    let reader = key(&app, KeyLimits { permissions, ..KeyLimits::default() }).await;
    let create = async |key: &str| {
        let body = json!({ "title": "t", "creator": "a", "member": ["b", "c"] }).to_string();
        let path = format!("/cgi/session/create?accessToken={key}");
        let cgi: Value = app.client.post(&path, body).await.json().await.unwrap();
        let body = json!({ "operator": "a", "title": "t", "member": ["a", "b", "c"] });
        let request = app.client.request(Method::POST, "/v1/sessions").bearer_auth(key);
        let response = request.json(&body).send().await.unwrap();
        (cgi["errcode"].as_i64().unwrap(), response.status().as_u16())
    };
    assert_eq!(ask(&app, &reader, "").await, accepted());
    assert_eq!(create(&reader).await, (3, 403));
    assert_eq!(create(&app.api_key).await, (0, 201), "another key of the app");
    let request = app.client.request(Method::POST, "/v1/sessions").bearer_auth(&reader);
    let (_, code, rest) = problem(request.json(&json!({})).send().await.unwrap()).await;
    let detail = "the API key lacks the permission sessions:write, which its app has";
    assert_eq!((code.as_str(), &rest["detail"]), ("missing_permission", &json!(detail)));

    // A dry run and an empty change only read.
    let permissions = Some(vec![Permission::SessionsWrite]);
    let writer = key(&app, KeyLimits { permissions, ..KeyLimits::default() }).await;
    let session = app.session(&["a", "b", "c"]).await;
    let path = format!("/v1/sessions/{}", session["sessionId"].as_str().unwrap());
    let path = path.replace(['{', '}'], "");
    for (query, body) in [
        ("", json!({ "operator": "a" })),
        ("?dryRun=true", json!({ "operator": "a", "title": "t" })),
    ] {
        let request = app.client.request(Method::PATCH, &format!("{path}{query}"));
        let request = request.bearer_auth(&writer).json(&body);
        let (_, code, rest) = problem(request.send().await.unwrap()).await;
        let detail = "the API key lacks the permission sessions:read, which its app has";
        assert_eq!((code.as_str(), &rest["detail"]), ("missing_permission", &json!(detail)));
    }

    // The app loses the permission of its key.
    let permissions: Permissions = [Permission::SessionsWrite].into_iter().collect();
    let changes = AppChanges { permissions: Some(permissions), ..AppChanges::default() };
    apps::update(&admin, buin, &app_id, changes).await.unwrap();
    let (errcode, _, status, _, detail) = ask(&app, &reader, "").await;
    assert_eq!((errcode, status), (3, 403));
    assert_eq!(detail, "the app lacks the permission sessions:read");
    assert_eq!(create(&reader).await, (3, 403));

    for lacking in [Permission::SessionsRead, Permission::SessionsAdmin, Permission::Callbacks] {
        let permissions = Some(vec![Permission::SessionsWrite, lacking]);
        let limits = KeyLimits { permissions, ..KeyLimits::default() };
        let error = keys::create(&admin, buin, &app_id, "", limits).await.err().unwrap();
        assert!(matches!(error, Error::PermissionOfNoApp(found) if found == lacking), "{error}");
    }
    let expires_at = Some(app.clock.now());
    let limits = KeyLimits { expires_at, ..KeyLimits::default() };
    let error = keys::create(&admin, buin, &app_id, "", limits).await.err().unwrap();
    assert!(matches!(error, Error::ExpiryInThePast(_)), "{error}");
    assert_eq!(keys::list(&admin).await.unwrap().len(), 3, "a refused key leaves no trace");
}

#[tokio::test(flavor = "multi_thread")]
async fn administrator_needs_a_key_with_that_permission() {
    let app = spawn_app().await;
    let permissions =
        [Permission::SessionsRead, Permission::SessionsWrite, Permission::SessionsAdmin];
    let (client, all) = app.another_app(crate::harness::BUIN, &permissions).await;
    let admin = admin(&app);
    let limits = KeyLimits {
        permissions: Some(vec![Permission::SessionsRead, Permission::SessionsWrite]),
        ..KeyLimits::default()
    };
    let (buin, app_id) = (client.buin.to_string().parse().unwrap(), client.app_id.parse().unwrap());
    let narrow = keys::create(&admin, buin, &app_id, "", limits).await.unwrap();
    let narrow = narrow.commit(&admin).await.unwrap().key;
    let session = app.session(&["a", "b", "c"]).await;
    let id = session["sessionId"].as_str().unwrap().trim_matches(['{', '}']).to_owned();
    let rename = async |key: &str| {
        let body = json!({ "operator": "root", "title": "new", "reason": "audit" });
        let request = client.request(Method::PATCH, &format!("/v1/sessions/{id}"));
        request.bearer_auth(key).json(&body).send().await.unwrap().status().as_u16()
    };
    assert_eq!(rename(narrow.reveal()).await, 403, "an ordinary operator must be a member");
    assert_eq!(rename(&all).await, 200);
}

/// The keys of the test app.
async fn listed(admin: &AdminContext) -> Vec<ApiKeySummary> {
    keys::list(admin).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn key_that_expires_soon_is_found_in_time() {
    let app = spawn_app().await;
    let admin = admin(&app);
    let at = |days: u32| KeyLimits {
        expires_at: Some(app.clock.now() + days * DAY),
        ..KeyLimits::default()
    };
    key(&app, at(20)).await;
    assert_eq!(keys::expiring(&admin).await.unwrap(), []);
    app.clock.advance(6 * DAY);
    let [soon] = &keys::expiring(&admin).await.unwrap()[..] else { panic!() };
    assert_eq!(soon.limits.expires_at, Some(app.clock.now() + 14 * DAY));
    let (buin, app_id) = app_of(&app);
    apps::set_disabled(&admin, buin, &app_id, true).await.unwrap();
    assert_eq!(keys::expiring(&admin).await.unwrap(), [], "the key of a disabled app is not used");
    apps::set_disabled(&admin, buin, &app_id, false).await.unwrap();
    app.clock.advance(14 * DAY);
    assert_eq!(keys::expiring(&admin).await.unwrap(), [], "it has expired");
    assert_eq!(listed(&admin).await.len(), 2);
}

fn at(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_create_and_list_keys_with_limits() {
    let database = database().await;
    let home = Home::for_database(&database);
    let mine = ["--buin", "7", "--app-id", "mine"];
    home.json(&[&["app", "create"][..], &mine].concat());
    let create = |options: &[&str]| home.run(&[&["key", "create"][..], &mine, options].concat());
    let limits = [
        "--expires",
        "90d",
        "--permissions",
        "sessions:read",
        "--networks",
        "10.1.2.3/8,203.0.113.7,2001:db8::1/32",
        "--json",
    ];
    let clock = Clock::system();
    let before = clock.now();
    let created = create(&limits).ok().json();
    let networks = json!(["10.0.0.0/8", "203.0.113.7", "2001:db8::/32"]);
    assert_eq!(
        (&created["permissions"], &created["networks"]),
        (&json!(["sessions:read"]), &networks)
    );
    let expires_at = at(&created["expiresAt"]);
    assert!(expires_at >= before + 90 * DAY && expires_at <= clock.now() + 90 * DAY);
    let plain = create(&["--expires", "2100-01-01T00:00:00Z"]).ok().stdout;
    assert!(plain.starts_with("msk_") && plain.lines().count() == 1, "{plain}");
    create(&[]).ok();

    let listed = home.json(&["key", "list"]);
    let [first, second, third] = &listed.as_array().unwrap()[..] else { panic!("{listed}") };
    assert_eq!((&first["networks"], &first["permissions"]), (&networks, &json!(["sessions:read"])));
    assert!((at(&first["expiresAt"]) - expires_at).num_seconds().abs() < 1, "{first}");
    assert_eq!(second["expiresAt"], "2100-01-01T00:00:00Z");
    for field in ["expiresAt", "permissions", "lastUsedAt", "lastUsedFrom", "revokedAt"] {
        assert_eq!(third[field], Value::Null, "{third}");
    }
    assert_eq!(third["networks"], json!([]));
    let text = home.run(&["key", "list"]).ok().stdout;
    for part in
        ["EXPIRES", "FROM", "PERMISSIONS", "NETWORKS", "2100-01-01 00:00", "10.0.0.0/8,203.0.113.7"]
    {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let audit = home.json(&["audit", "list", "--action", "key.create"]);
    let details = &audit.as_array().unwrap().last().unwrap()["details"];
    assert_eq!(details["permissions"], json!(["sessions:read"]));
    assert_eq!(details["networks"][0], "10.0.0.0/8");

    let many = vec!["10.0.0.1"; 65].join(",");
    for (options, parts) in [
        (&["--expires", "soon"][..], &["--expires", "90d", "2026-12-31T00:00:00Z"][..]),
        (&["--expires", "0s"], &["--expires", "1 second"]),
        (&["--permissions", "sessions:fly"], &["--permissions", "sessions:fly"]),
        (&["--networks", "10.0.0.0/33"], &["--networks", "10.0.0.0/8"]),
        (&["--networks", &many], &["--networks", "at most 64 networks, got 65"]),
    ] {
        create(options).fails(2, parts);
    }
    create(&["--expires", "2001-01-01T00:00:00Z"]).fails(1, &["--expires", "not in the future"]);
    create(&["--permissions", "sessions:admin"]).fails(
        1,
        &["--permissions: the app lacks the permission sessions:admin", "muster app update"],
    );
    assert_eq!(home.json(&["key", "list"]).as_array().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn last_use_is_recorded_with_its_client() {
    let mut home = Home::with_database();
    home.set("MUSTER__SERVER__TRUSTED_PROXIES", "127.0.0.0/8");
    let server = home.serve();
    let key = home.api_key();
    for from in ["198.51.100.1", "2001:db8:1:2:3::4"] {
        let request = http().get(server.url("/v1/sessions")).bearer_auth(&key);
        let response = request.header("x-forwarded-for", from).send().await.unwrap();
        assert_eq!(response.status(), 200);
    }
    server.stop();
    let used = home.json(&["key", "list"])[0].clone();
    assert!(used["lastUsedAt"].is_string(), "{used}");
    assert_eq!(used["lastUsedFrom"], "2001:db8:1:2::/64", "the last one");
    // A refused request is no use.
    let server = home.serve();
    let request = http().get(server.url("/v1/sessions")).bearer_auth(format!("{key}x"));
    assert_eq!(request.send().await.unwrap().status(), 401);
    let response = http().get(server.url("/v1/sessions")).bearer_auth(&key).send().await.unwrap();
    assert_eq!(response.status(), 200);
    server.stop();
    let again = home.json(&["key", "list"])[0].clone();
    assert_eq!(again["lastUsedFrom"], "127.0.0.1", "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_are_warned_before_a_key_expires() {
    let mut home = Home::with_database();
    let server = home.serve();
    let metrics = server.running.until_stderr("the metrics address", |log| {
        Some(log.split_once(" metrics=")?.1.split_once('\n')?.0.to_owned())
    });
    let next = async || {
        let page = http().get(format!("http://{metrics}/metrics")).send().await.unwrap();
        let page = page.text().await.unwrap();
        let name = "muster_api_key_not_after_timestamp_seconds ";
        let line = page.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.parse::<f64>().unwrap()
    };
    assert!(next().await.abs() < 0.5, "no key expires");
    let credentials = home.credentials();
    let buin = credentials["buin"].to_string();
    let which = ["--buin", &buin, "--app-id", credentials["appId"].as_str().unwrap()];
    let later = home.json(&[&["key", "create", "--expires", "90d"][..], &which].concat());
    crate::harness::wait_until("the expiry in the metrics", async || {
        (next().await - at(&later["expiresAt"]).timestamp() as f64).abs() < 1.5
    })
    .await;
    assert!(!home.run(&["doctor"]).stdout.contains("  keys "));
    assert!(!server.running.stderr().contains("API keys expire soon"));

    let soon = home.json(&[&["key", "create", "--expires", "13d"][..], &which].concat());
    let id = soon["id"].as_str().unwrap();
    server.running.until_stderr("the warning in the log", |log| {
        let line = log.lines().find(|line| line.contains("API keys expire soon"))?;
        line.contains(&format!("key=\"{id}\"")).then_some(())
    });
    crate::harness::wait_until("the next expiry in the metrics", async || {
        (next().await - at(&soon["expiresAt"]).timestamp() as f64).abs() < 1.5
    })
    .await;
    home.set("MUSTER__SERVER__BIND", "127.0.0.1:0");
    let doctor = home.run(&["doctor"]).stdout;
    let line = doctor.lines().find(|line| line.starts_with("warn  keys")).unwrap();
    assert!(line.contains(id) && line.contains("expire soon"), "{doctor}");
    assert!(!line.contains(later["id"].as_str().unwrap()), "{doctor}");
    server.stop();
}

/// The app may read and its key may not: the text names the key.
#[tokio::test(flavor = "multi_thread")]
async fn refused_reads_of_a_limited_key_name_the_key() {
    let app = spawn_app().await;
    let session = app.session(&["a", "b", "c"]).await;
    let limits =
        KeyLimits { permissions: Some(vec![Permission::SessionsWrite]), ..KeyLimits::default() };
    let writer = key(&app, limits).await;
    let id = session["sessionId"].as_str().unwrap().trim_matches(['{', '}']).to_lowercase();
    let text = "the API key lacks the permission sessions:read, which its app has";
    let session_path = format!("/v1/sessions/{id}");
    let operator = json!({ "operator": "a" });
    let revert = json!({ "operator": "a", "version": 1 });
    for (method, path, body) in [
        (Method::PATCH, session_path.clone(), &operator),
        (Method::PATCH, format!("{session_path}?dryRun=true"), &operator),
        (Method::POST, format!("{session_path}/revert?dryRun=true"), &revert),
        (Method::GET, session_path.clone(), &Value::Null),
        (Method::GET, format!("{session_path}/events"), &Value::Null),
        (Method::GET, "/v1/sessions".to_owned(), &Value::Null),
    ] {
        let mut request = app.client.request(method.clone(), &path).bearer_auth(&writer);
        if !body.is_null() {
            request = request.json(body);
        }
        let (status, code, rest) = problem(request.send().await.unwrap()).await;
        assert_eq!((status, code.as_str()), (403, "missing_permission"), "{method} {path}");
        assert_eq!(rest["detail"], text, "{method} {path}");
    }
    let empty = json!({ "items": [{ "update": { "sessionId": id, "operator": "a" } }] });
    let request = app.client.request(Method::POST, "/v1/sessions/batch").bearer_auth(&writer);
    let done: Value = request.json(&empty).send().await.unwrap().json().await.unwrap();
    assert!(done.to_string().contains(text), "{done}");
    let body = json!({ "sessionId": session["sessionId"], "opUser": "a" }).to_string();
    let path = format!("/cgi/session/update?accessToken={writer}");
    let cgi: Value = app.client.post(&path, body).await.json().await.unwrap();
    assert_eq!(
        (&cgi["errcode"], &cgi["errmsg"]),
        (&json!(3), &json!(format!("accessToken: {text}")))
    );
}
