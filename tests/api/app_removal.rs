//! The end of apps: deleted if no history names them, else archived.

use serde_json::{Value, json};

use crate::harness::process::Home;
use crate::harness::server::database;
use crate::harness::store;

const MINE: [&str; 4] = ["--buin", "7", "--app-id", "mine"];
const HOOK: [&str; 4] = ["--callback-url", "http://127.0.0.1:1/", "--callback-token", "secret"];

fn with<'a>(command: &[&'a str]) -> Vec<&'a str> {
    [command, &MINE].concat()
}

fn actions(home: &Home) -> Vec<Value> {
    let lines = home.json(&["audit", "list", "--app-id", "mine"]);
    lines.as_array().unwrap().iter().rev().map(|line| line["action"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn app_without_a_history_is_deleted_with_everything() {
    let database = database().await;
    let mut home = Home::for_database(&database);
    home.set("MUSTER__LIMITS__MAX_FAILED_ATTEMPTS", "0");
    let server = home.serve();
    let app = home.json(&[&with(&["app", "create"])[..], &HOOK].concat());
    let key = home.json(&with(&["key", "create"]));
    // Another app changes a session, so this one has callbacks.
    let other = home.json(&["app", "create", "--buin", "7", "--app-id", "other"]);
    let other_key = home.json(&["key", "create", "--buin", "7", "--app-id", "other"]);
    server.plain_client(other_key["key"].as_str().unwrap()).create().await;
    let list = ["delivery", "list", "--app-id", "mine"];
    assert_eq!(home.json(&list).as_array().unwrap().len(), 1);
    let (client, caller) = (server.client(&app), server.plain_client(key["key"].as_str().unwrap()));
    assert_eq!((client.gettoken().await["errcode"].clone(), caller.errcode().await), (json!(0), 0));

    let deleted = home.json(&with(&["app", "delete"]));
    assert_eq!(deleted, json!({ "buin": 7, "appId": "mine", "deleted": true }));
    assert_eq!(client.gettoken().await["errcode"], 100_005);
    assert_eq!(caller.errcode().await, 100_001);
    for command in ["show", "delete", "archive", "enable"] {
        home.run(&with(&["app", command])).fails(1, &["there is no app mine"]);
    }
    let apps = home.json(&["app", "list", "--archived"]);
    let ids: Vec<&Value> = apps.as_array().unwrap().iter().map(|app| &app["appId"]).collect();
    assert_eq!(ids, [&other["appId"]]);
    assert_eq!(home.json(&["key", "list"]).as_array().unwrap().len(), 1);
    let mut connection = store::connect_to(&database).await;
    assert_eq!(store::count_rows_of_app(&mut connection, "mine").await, 0);
    assert_eq!(actions(&home), ["app.create", "key.create", "app.disable", "app.delete"]);

    // The id is free again.
    let again = home.json(&with(&["app", "create"]));
    assert_ne!(again["aesKey"], app["aesKey"]);
    assert_eq!(server.client(&again).gettoken().await["errcode"], 0);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn app_with_a_history_is_archived() {
    let database = database().await;
    let mut home = Home::for_database(&database);
    home.set("MUSTER__LIMITS__MAX_FAILED_ATTEMPTS", "0");
    let server = home.serve();
    let app = home.json(&[&with(&["app", "create", "--name", "Mine"])[..], &HOOK].concat());
    let key = home.json(&with(&["key", "create"]));
    let caller = server.plain_client(key["key"].as_str().unwrap());
    let session = caller.create().await;
    let before = (home.json(&with(&["app", "show"])), actions(&home));
    home.run(&with(&["app", "delete"])).fails(
        1,
        &["the history of sessions names app mine of enterprise 7", "muster app archive"],
    );
    let after = (home.json(&with(&["app", "show"])), actions(&home));
    assert_eq!(after, before, "a refused deletion leaves no trace");
    assert_eq!(caller.errcode().await, 0);

    let archived = home.json(&with(&["app", "archive"]));
    assert_eq!(
        (&archived["archived"], &archived["disabled"], &archived["callbackUrl"]),
        (&json!(true), &json!(true), &Value::Null)
    );
    assert_eq!(caller.errcode().await, 100_001);
    assert_eq!(server.client(&app).gettoken().await["errcode"], 100_005);
    assert_eq!(home.json(&["app", "list"]), json!([]));
    let listed = home.json(&["app", "list", "--archived"]);
    assert_eq!((&listed[0]["name"], &listed[0]["archived"]), (&json!("Mine"), &json!(true)));
    assert!(home.run(&["app", "list", "--archived"]).ok().stdout.contains("archived"));
    assert!(home.run(&with(&["app", "show"])).ok().stdout.contains("archived        yes"));
    let keys = home.json(&["key", "list"]);
    assert!(keys[0]["revokedAt"].is_string(), "{keys}");
    let pending = ["delivery", "list", "--app-id", "mine"];
    let deliveries = home.json(&pending);
    assert!(
        deliveries.as_array().unwrap().iter().all(|one| one["state"] == "failed"),
        "{deliveries}"
    );
    let secrets = home.json(&with(&["app", "show", "--show-secrets"]));
    assert_ne!(secrets["aesKey"], app["aesKey"], "its key has ended for ever");

    // No command brings it back.
    for command in [
        &["app", "enable"][..],
        &["app", "disable"],
        &["app", "update", "--name", "x"],
        &["app", "update", "--callback-url", "http://127.0.0.1:1/"],
        &["app", "test-callback"],
        &["app", "delete"],
        &["app", "rotate-key"],
        &["app", "pause-callbacks"],
        &["app", "archive"],
        &["key", "create"],
    ] {
        home.run(&with(command))
            .fails(1, &["app mine of enterprise 7 is archived, which cannot be undone"]);
    }
    home.run(&with(&["app", "create"])).fails(1, &["already exists"]);
    assert!(actions(&home).contains(&json!("app.archive")));

    // The history still names the app.
    let reader = home.json(&["app", "create", "--buin", "7", "--app-id", "reader"]);
    let reader =
        home.json(&["key", "create", "--buin", "7", "--app-id", reader["appId"].as_str().unwrap()]);
    let id = session["sessionId"].as_str().unwrap().trim_matches(['{', '}']);
    let url = server.url(&format!("/v1/sessions/{id}/events"));
    let http = crate::harness::process::http();
    let events = http.get(url).bearer_auth(reader["key"].as_str().unwrap()).send().await.unwrap();
    let events: Value = events.json().await.unwrap();
    assert!(events.to_string().contains("\"mine\""), "{events}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn archived_app_that_no_history_names_can_be_deleted() {
    let database = database().await;
    let home = Home::for_database(&database);
    home.json(&with(&["app", "create"]));
    home.json(&with(&["app", "archive"]));
    home.json(&with(&["app", "delete"]));
    assert_eq!(home.json(&["app", "list", "--archived"]), json!([]));
    assert_eq!(actions(&home), ["app.create", "app.archive", "app.delete"]);
}

/// Without its audit entry, no action is done.
#[tokio::test(flavor = "multi_thread")]
async fn removal_without_an_audit_entry_changes_nothing() {
    let database = database().await;
    let home = Home::for_database(&database);
    home.json(&with(&["app", "create"]));
    home.json(&with(&["app", "disable"]));
    let before = home.json(&with(&["app", "show"]));
    store::refuse_audit_entries(&mut store::connect_to(&database).await).await;
    for command in ["delete", "archive"] {
        home.run(&with(&["app", command])).fails(1, &["no_new_entries"]);
        assert_eq!(home.json(&with(&["app", "show"])), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn first_app_does_not_come_back() {
    for command in ["delete", "archive"] {
        let home = Home::with_database();
        let first = home.credentials();
        let buin = first["buin"].to_string();
        let which = ["--buin", &buin, "--app-id", first["appId"].as_str().unwrap()];
        home.json(&[&["app", command][..], &which].concat());
        assert!(!home.data_dir.join("first-app.json").exists());
        let server = home.serve();
        assert_eq!(server.client(&first).gettoken().await["errcode"], 100_005, "{command}");
        server.stop();
        if command == "delete" {
            // The database has no app, so the start made another one.
            assert_ne!(home.credentials()["appId"], first["appId"]);
        } else {
            assert!(!home.data_dir.join("first-app.json").exists());
        }
    }
}
