//! The commands, called by people and by scripts.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::process::Home;
use crate::harness::server::database;
use crate::harness::store;

/// The names of the fields of an object.
fn fields(value: &Value) -> Vec<&str> {
    let mut fields: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    fields
}

const APP_FIELDS: [&str; 10] = [
    "aesKey",
    "appId",
    "buin",
    "callbackToken",
    "callbackUrl",
    "callbacksPaused",
    "disabled",
    "forms",
    "name",
    "permissions",
];

/// The app as commands print it that do not show secrets.
fn without(secrets: &[&str], app: &Value) -> Value {
    let mut app = app.clone();
    for secret in secrets {
        app.as_object_mut().unwrap().remove(*secret).unwrap();
    }
    app
}

#[test]
fn help_names_every_command_and_option() {
    let home = Home::new();
    for (command, parts) in [
        (
            &["--help"][..],
            &[
                "127.0.0.1:7080",
                "./data",
                "--config",
                "MUSTER_CONFIG",
                "MUSTER__SERVER__BIND",
                "serve",
                "migrate",
                "app",
                "key",
                "audit",
                "secrets",
                "doctor",
                "config",
                "openapi",
                "health",
                "completions",
                "man",
            ][..],
        ),
        (&["serve", "--help"], &["Ctrl-C", "SIGTERM", "default"]),
        (&["migrate", "--help"], &["status", "--json"]),
        (&["migrate", "status", "--help"], &["pending", "--json"]),
        (
            &["app", "--help"],
            &["create", "list", "show", "update", "disable", "enable", "rotate-key"],
        ),
        (
            &["app", "create", "--help"],
            &[
                "--buin",
                "--app-id",
                "--aes-key",
                "EncodingAESKey",
                "--name",
                "--permissions",
                "sessions:read",
                "sessions:write",
                "sessions:admin",
                "callbacks",
                "--callback-url",
                "--callback-token",
                "--json",
                "random",
                "[default: sessions:read,sessions:write,callbacks]",
            ],
        ),
        (&["app", "list", "--help"], &["--json"]),
        (&["app", "show", "--help"], &["--buin", "--app-id", "AES key", "--show-secrets"]),
        (&["app", "update", "--help"], &["--name", "--permissions", "--no-callback", "stays"]),
        (&["app", "disable", "--help"], &["refused at once"]),
        (&["app", "enable", "--help"], &["--buin", "--app-id"]),
        (&["app", "rotate-key", "--help"], &["--aes-key", "tokens end"]),
        (&["key", "--help"], &["create", "list", "revoke"]),
        (&["key", "create", "--help"], &["--buin", "--app-id", "--label", "shown this once"]),
        (&["key", "list", "--help"], &["--json"]),
        (&["key", "revoke", "--help"], &["key list", "at once"]),
        (&["doctor", "--help"], &["configuration", "database", "disk", "clock", "port", "--json"]),
        (&["audit", "list", "--help"], &["--since", "--until", "--action", "--limit", "--json"]),
        (&["secrets", "--help"], &["master key", "generate", "status", "rotate"]),
        (&["secrets", "rotate", "--help"], &["--finish", "running servers", "backups"]),
        (&["backup", "--help"], &["empty directory", "--with-key", "master key", "--json"]),
        (&["restore", "--help"], &["new data directory", "empty database", "--json"]),
        (&["feed", "new-epoch", "--help"], &["point-in-time", "--json"]),
        (
            &["move-to", "--help"],
            &["another PostgreSQL", "servers must be stopped", "standard input"],
        ),
        (&["config", "--help"], &["TOML", "default", "show"]),
        (&["config", "show", "--help"], &["in force", "masked", "--json"]),
        (&["health", "--help"], &["ready", "exits with 0", "--live"]),
        (&["completions", "--help"], &["bash", "zsh", "fish", "powershell", "elvish"]),
        (&["man", "--help"], &["<DIR>", "one for each command"]),
    ] {
        let help = home.run(command).ok().stdout;
        // The help without line breaks.
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in parts {
            assert!(help.contains(part), "no {part:?} in {command:?}: {help}");
        }
    }
    assert!(home.run(&["--version"]).ok().stdout.starts_with("muster 0."));
    assert_eq!(home.run(&["config"]).ok().stdout, muster::config::DEFAULTS);
    assert!(!home.data_dir.exists(), "these commands need no database");
}

/// Commands that do not show secrets print none, neither as text nor as JSON.
fn secrets_stay_hidden(home: &Home, which: &[&str], secrets: &[&str]) {
    for command in ["update", "disable", "enable", "pause-callbacks", "resume-callbacks", "show"] {
        let command = [&["app", command][..], which].concat();
        for printed in [home.run(&command), home.run(&[&command[..], &["--json"]].concat())] {
            let printed = printed.ok().stdout;
            assert!(printed.contains("https://example.org/a?…"), "{printed}");
            for secret in secrets {
                assert!(!printed.contains(secret), "{command:?}: {printed}");
            }
        }
    }
    let listed = home.run(&["app", "list", "--json"]).ok().stdout;
    let rotated = home.run(&[&["app", "rotate-key", "--aes-key", secrets[0]], which].concat());
    let rotated = rotated.ok().stdout;
    assert!(rotated.contains(secrets[0]), "{rotated}");
    assert!(!rotated.contains("token"), "{rotated}");
    for secret in secrets {
        assert!(!listed.contains(secret), "{listed}");
    }
    let shown = [&["app", "show", "--show-secrets"], which].concat();
    let shown = home.run(&shown).ok().stdout;
    assert!(secrets.iter().all(|secret| shown.contains(secret)), "{shown}");
}

/// Runs every command once, each on the database that the command before left.
fn walk(home: &Home) {
    let create = ["app", "create", "--buin", "77", "--app-id", "walker", "--name", "走者"];
    let app = home.json(&create);
    assert_eq!(fields(&app), APP_FIELDS);
    assert_eq!(STANDARD.decode(app["aesKey"].as_str().unwrap()).unwrap().len(), 32);
    assert_eq!(
        app,
        json!({
            "buin": 77, "appId": "walker", "name": "走者", "aesKey": app["aesKey"],
            "permissions": ["sessions:read", "sessions:write", "callbacks"], "forms": "both",
            "callbackUrl": null, "callbackToken": null, "callbacksPaused": false, "disabled": false,
        })
    );
    let which = ["--buin", "77", "--app-id", "walker"];
    let with = |command: &[&'static str]| [command, &which].concat();
    let secrets = ["aesKey", "callbackToken"];
    assert_eq!(home.json(&with(&["app", "show"])), without(&secrets, &app));
    assert_eq!(home.json(&with(&["app", "show", "--show-secrets"])), app);
    let shown = home.run(&with(&["app", "show"])).ok().stdout;
    for part in ["77", "walker", "走者", "sessions:read"] {
        assert!(shown.contains(part), "{shown}");
    }

    // An option that is not given changes nothing.
    let callback = ["--callback-url", "https://u:p@example.org/a?b=c", "--callback-token", "hush"];
    let changed = home.json(&[&with(&["app", "update"])[..], &callback].concat());
    assert_eq!(changed["callbackUrl"], "https://example.org/a?…");
    let url = home.json(&with(&["app", "show", "--show-secrets"]))["callbackUrl"].clone();
    assert_eq!(url, callback[1]);
    assert_eq!(changed["name"], app["name"]);
    let token = || home.json(&with(&["app", "show", "--show-secrets"]))["callbackToken"].clone();
    assert_eq!(token(), "hush");
    let changed = home.json(
        &[&with(&["app", "update"])[..], &["--name", "x", "--permissions", "sessions:read"]]
            .concat(),
    );
    assert_eq!(changed["permissions"], json!(["sessions:read"]));
    for forms in ["sealed", "plain", "both"] {
        let changed = home.json(&[&with(&["app", "update"])[..], &["--forms", forms]].concat());
        assert_eq!(
            (&changed["forms"], &changed["permissions"]),
            (&json!(forms), &json!(["sessions:read"]))
        );
        assert_eq!(home.json(&with(&["app", "show"]))["forms"], forms);
        let shown = home.run(&with(&["app", "show"])).ok().stdout;
        assert!(shown.contains(&format!("forms           {forms}")), "{shown}");
    }
    home.run(&[&with(&["app", "update"])[..], &["--forms", "open"]].concat())
        .fails(2, &["\"open\" is not one of sealed, plain and both"]);
    assert_eq!((changed["name"].as_str(), token()), (Some("x"), json!("hush")));
    let changed =
        home.json(&[&with(&["app", "update"])[..], &["--callback-token", "new"]].concat());
    assert_eq!(changed["callbackUrl"], "https://example.org/a?…");
    assert_eq!(token(), "new");
    secrets_stay_hidden(home, &which, &[app["aesKey"].as_str().unwrap(), "new", "u:p", "b=c"]);
    let changed = home.json(&[&with(&["app", "update"])[..], &["--no-callback"]].concat());
    assert_eq!((&changed["callbackUrl"], token()), (&Value::Null, Value::Null));

    assert_eq!(home.json(&with(&["app", "disable"]))["disabled"], true);
    assert_eq!(home.json(&with(&["app", "disable"]))["disabled"], true);
    assert!(home.run(&["app", "list"]).ok().stdout.contains("disabled"));
    assert_eq!(home.json(&with(&["app", "enable"]))["disabled"], false);
    let rotated = home.json(&with(&["app", "rotate-key"]));
    assert_ne!(rotated["aesKey"], app["aesKey"]);
    let chosen = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    let rotated = home.json(&[&with(&["app", "rotate-key"])[..], &["--aes-key", chosen]].concat());
    assert_eq!(rotated["aesKey"], format!("{chosen}="));

    let listed = home.json(&["app", "list"]);
    let listed: Vec<_> =
        listed.as_array().unwrap().iter().filter(|app| app["buin"] == 77).collect();
    assert_eq!(listed, [&without(&["aesKey"], &rotated)]);

    let key = home.json(&[&with(&["key", "create"])[..], &["--label", "钥匙"]].concat());
    assert_eq!(fields(&key), ["appId", "buin", "id", "key", "label"]);
    assert!(key["key"].as_str().unwrap().starts_with("msk_"));
    let plain = home.run(&with(&["key", "create"])).ok().stdout;
    assert!(plain.starts_with("msk_") && plain.lines().count() == 1, "{plain}");
    let text = home.run(&["key", "list"]).ok().stdout;
    assert!(text.contains("钥匙") && text.contains(key["id"].as_str().unwrap()), "{text}");
    assert!(!text.contains("msk_"), "a key is shown once: {text}");
    let ids = |revoked: bool| {
        let keys = home.json(&["key", "list"]);
        let keys = keys.as_array().unwrap().iter().filter(|key| key["buin"] == 77);
        keys.filter(|key| key["revokedAt"].is_string() == revoked)
            .map(|key| key["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(false).len(), 2);
    let id = key["id"].as_str().unwrap();
    let done = home.json(&["key", "revoke", id]);
    assert_eq!(done, json!({ "id": id, "revoked": true, "wasValid": true }));
    assert_eq!(home.json(&["key", "revoke", id])["wasValid"], false);
    assert_eq!(ids(true), [id]);
    // A key can be revoked by its text, without its id.
    assert_eq!(home.run(&["key", "revoke", plain.trim()]).ok().stdout, "revoked\n");
    assert_eq!(ids(false), Vec::<String>::new());
}

#[test]
fn commands_work_without_a_server() {
    let home = Home::new();
    home.run(&["migrate", "--create-database"]).ok();
    walk(&home);
    assert!(home.postmaster().is_none(), "a command leaves nothing running");
    assert!(home.data_dir.join("postgres/PG_VERSION").exists());
}

#[test]
fn commands_work_while_a_server_runs() {
    let home = Home::with_database();
    let server = home.serve();
    walk(&home);
    server.stop();
    assert!(home.postmaster().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_work_on_a_configured_database() {
    let database = database().await;
    let home = Home::for_database(&database);
    walk(&home);
    assert!(!home.data_dir.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn running_server_applies_app_changes_at_once() {
    let mut home = Home::with_database();
    // The test uses revoked credentials repeatedly.
    home.set("MUSTER__LIMITS__MAX_FAILED_ATTEMPTS", "0");
    let server = home.serve();
    // The first app is created right after the start.
    for round in 0..4 {
        let buin = (100 + round).to_string();
        let which = ["--buin", &buin, "--app-id", "mine"];
        let with = |command: [&'static str; 2]| [&command[..], &which].concat();
        let app = home.json(&with(["app", "create"]));
        let client = server.client(&app);
        let token = client.token().await;
        let key = home.json(&with(["key", "create"]));
        let caller = server.plain_client(key["key"].as_str().unwrap());
        assert_eq!(caller.errcode().await, 0);

        home.run(&with(["app", "disable"])).ok();
        assert_eq!(caller.errcode().await, 100_001, "disabled, round {round}");
        assert_eq!(client.gettoken().await["errcode"], 100_005);
        let id = "00000000-0000-7000-8000-000000000000";
        assert_eq!(client.get_session(&token, id).await["errcode"], 100_001);
        home.run(&with(["app", "enable"])).ok();
        assert_eq!(caller.errcode().await, 0, "enabled, round {round}");
        assert_eq!(client.get_session(&token, id).await["errcode"], 400_003);

        let rotated = home.json(&with(["app", "rotate-key"]));
        assert_eq!(client.get_session(&token, id).await["errcode"], 100_001, "rotated");
        assert_eq!(client.gettoken().await["errcode"], 100_006);
        let client = server.client(&rotated);
        let token = client.token().await;
        assert_eq!(client.get_session(&token, id).await["errcode"], 400_003);

        let update = with(["app", "update"]);
        home.run(&[&update[..], &["--permissions", "sessions:write"]].concat()).ok();
        assert_eq!(caller.errcode().await, 3, "not permitted, round {round}");
        home.run(&[&update[..], &["--permissions", "sessions:read"]].concat()).ok();
        assert_eq!(caller.errcode().await, 0);
        home.run(&["key", "revoke", key["id"].as_str().unwrap()]).ok();
        assert_eq!(caller.errcode().await, 100_001, "revoked, round {round}");
    }
    server.stop();
}

#[test]
fn credentials_file_gets_the_rotated_key() {
    let home = Home::with_database();
    let before = home.credentials();
    let buin = before["buin"].to_string();
    let which = ["--buin", &buin, "--app-id", before["appId"].as_str().unwrap()];
    let rotated = home.json(&[&["app", "rotate-key"][..], &which].concat());
    let mut expected = before.clone();
    expected["aesKey"] = rotated["aesKey"].clone();
    assert_ne!(before, expected);
    assert_eq!(home.credentials(), expected);
    // The key of another app does not change the file.
    let other = home.json(&["app", "create", "--buin", &buin]);
    let which = ["--buin", &buin, "--app-id", other["appId"].as_str().unwrap()];
    home.json(&[&["app", "rotate-key"][..], &which].concat());
    assert_eq!(home.credentials(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn change_right_after_the_start_takes_effect() {
    let home = Home::with_database();
    let which = home.credentials();
    let buin = which["buin"].to_string();
    let which = ["--buin", &buin, "--app-id", which["appId"].as_str().unwrap()];
    // The second server keeps PostgreSQL running, so each start is short.
    let other = home.serve();
    for disable in [true, false, true, false] {
        let server = home.serve();
        let command = if disable { "disable" } else { "enable" };
        home.run(&[&["app", command][..], &which].concat()).ok();
        let expected = if disable { 100_001 } else { 0 };
        assert_eq!(server.plain_client(&home.api_key()).errcode().await, expected, "{command}");
        server.stop();
    }
    other.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn unconfirmed_change_is_reported() {
    let home = Home::with_database();
    let server = home.serve();
    assert_eq!(server.plain_client(&home.api_key()).errcode().await, 0);
    let credentials = home.credentials();
    let buin = credentials["buin"].to_string();
    let which = ["--buin", &buin, "--app-id", credentials["appId"].as_str().unwrap()];
    server.running.signal(Signal::STOP);
    let output = home.run(&[&["app", "disable"][..], &which].concat());
    server.running.signal(Signal::CONT);
    assert!(output.status.success(), "{output:#?}");
    assert!(output.stderr.contains("not every running server has confirmed"), "{output:#?}");
    assert!(output.stdout.contains("disabled        yes"), "{output:#?}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn key_usage_is_recorded() {
    let home = Home::with_database();
    let used = |home: &Home| home.json(&["key", "list"])[0]["lastUsedAt"].clone();
    assert_eq!(used(&home), Value::Null);
    let server = home.serve();
    assert_eq!(server.plain_client(&home.api_key()).errcode().await, 0);
    server.stop();
    assert!(used(&home).is_string(), "the use is recorded when the server stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn error_texts_name_the_mistake_and_a_remedy() {
    let database = database().await;
    let home = Home::for_database(&database);
    home.json(&["app", "create", "--buin", "1", "--app-id", "taken"]);
    let unknown = ["--buin", "1", "--app-id", "nobody"];
    for command in ["show", "update", "disable", "enable", "rotate-key"] {
        home.run(&[&["app", command][..], &unknown].concat())
            .fails(1, &["error: there is no app nobody of enterprise 1", "muster app list"]);
    }
    home.run(&[&["key", "create"][..], &unknown].concat()).fails(1, &["no app nobody", "app list"]);
    home.run(&["key", "revoke", "0011223344556677"]).fails(1, &["no key of this id", "key list"]);
    home.run(&["app", "create", "--buin", "1", "--app-id", "taken"])
        .fails(1, &["taken of enterprise 1 already exists", "another --app-id", "app update"]);
    home.run(&["app", "update", "--buin", "1", "--app-id", "taken", "--callback-url", "http://a"])
        .fails(1, &["no callback yet", "--callback-token"]);

    for (arguments, parts) in [
        (&["--buin", "0"][..], &["--buin", "'0'", "1"][..]),
        (&["--buin", "x"], &["--buin", "'x'", "whole number"]),
        (&["--buin", "9223372036854775808"], &["--buin", "9223372036854775808"]),
        (&[], &["--buin"]),
        (&["--buin", "1", "--app-id", "a b"], &["--app-id", "'a b'"]),
        (&["--buin", "1", "--aes-key", "c2hvcnQ="], &["--aes-key", "32 bytes in base64"]),
        (&["--buin", "1", "--permissions", "sessions:fly"], &["sessions:fly", "sessions:read"]),
        (&["--buin", "1", "--callback-url", "http://a"], &["--callback-token"]),
        (&["--buin", "1", "--callback-token", "x"], &["--callback-url"]),
        (
            &["--buin", "1", "--callback-url", "ftp://a", "--callback-token", "x"],
            &["ftp://a", "http or https"],
        ),
        (
            &["--buin", "1", "--callback-url", "http://169.254.169.254/", "--callback-token", "x"],
            &["--callback-url", "169.254.169.254: a link-local address is never permitted"],
        ),
    ] {
        let output = home.run(&[&["app", "create"][..], arguments].concat());
        output.fails(2, parts);
        assert!(!output.stderr.contains("c2hvcnQ="), "a wrong key is secret too: {output:?}");
    }
    home.run(&["flap"]).fails(2, &["flap", "--help"]);
    home.run(&["app"]).fails(2, &["create", "rotate-key"]);
    assert_eq!(
        home.json(&["app", "list"]).as_array().unwrap().len(),
        1,
        "a failed create leaves no app"
    );
}

#[test]
fn callback_urls_that_settings_deny_are_named() {
    let mut home = Home::with_database();
    home.set("MUSTER__DELIVERY__DENY_NETWORKS", "127.0.0.0/8,::1/128");
    let app = ["--buin", "7", "--app-id", "mine"];
    let callback = |url| ["--callback-url", url, "--callback-token", "x", "--json"];
    let denied = "delivery.deny_networks contains it";
    let create =
        [&["app", "create"][..], &app, &callback("http://127.0.0.1:1/hook?key=k")].concat();
    let update = [&["app", "update"][..], &app, &callback("http://localhost:1/")].concat();
    for (command, parts) in [
        (create, ["warning: --callback-url: 127.0.0.1 cannot be reached now", denied]),
        (update, ["warning: --callback-url: localhost cannot be reached now", denied]),
    ] {
        let done = home.run(&command);
        assert!(done.status.success(), "{done:#?}");
        assert_eq!(done.json()["appId"], "mine", "{done:#?}");
        for part in parts {
            assert!(done.stderr.contains(part), "{part}: {done:#?}");
        }
        assert!(!done.stderr.contains("key=k"), "{done:#?}");
    }
    home.set("MUSTER__DELIVERY__DENY_NETWORKS", "10.0.0.0/8");
    home.json(&[&["app", "update"][..], &app, &callback("http://127.0.0.1:1/")[..4]].concat());
}

#[test]
fn settings_in_force_are_shown_with_their_origin() {
    let mut home = Home::new();
    let file = home.parent.join("muster.toml");
    std::fs::write(&file, "[server]\nheader_timeout = \"3s\"\nworkers = 1\n").unwrap();
    let secret = home.parent.join("master");
    let key = "5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed";
    std::fs::write(&secret, key).unwrap();
    home.set("MUSTER__DATABASE__URL", "postgres://u:Sesame@127.0.0.1:1/m");
    home.set("MUSTER__SECRETS__PREVIOUS_MASTER_KEY_FILE", secret.to_str().unwrap());
    home.set("MUSTER__SECRETS__MASTER_KEY", key);
    let config = ["--config", file.to_str().unwrap()];
    let shown = home.run(&[&["config", "show", "--json"][..], &config].concat()).ok();
    let text = home.run(&[&["config", "show"][..], &config].concat()).ok().stdout;
    for output in [&shown.stdout, &text] {
        assert!(!output.contains("Sesame") && !output.contains("5eed"), "{output}");
    }
    let shown = shown.json();
    assert_eq!(
        shown["file"],
        json!({ "path": file.to_str(), "source": "argument", "origin": "--config" })
    );
    let settings = shown["settings"].as_array().unwrap();
    let find = |key: &str| {
        let setting = settings.iter().find(|setting| setting["key"] == key).unwrap();
        let origin = setting["origin"].as_str().unwrap();
        (setting["value"].clone(), setting["source"].as_str().unwrap(), origin)
    };
    let (path, secret) = (file.display(), secret.display());
    let variable = |name: &str| format!("environment variable {name}");
    for (key, value, source, origin) in [
        ("cache.enabled", json!(true), "default", "the default".to_owned()),
        ("server.header_timeout", json!("3s"), "file", format!("{path}, line 2")),
        // The environment is stronger than the file.
        ("server.workers", json!(2), "environment", variable("MUSTER__SERVER__WORKERS")),
        (
            "database.url",
            json!("postgres://u:***@127.0.0.1:1/m"),
            "environment",
            variable("MUSTER__DATABASE__URL"),
        ),
        (
            "secrets.master_key",
            json!("***"),
            "environment",
            variable("MUSTER__SECRETS__MASTER_KEY"),
        ),
        (
            "secrets.previous_master_key",
            json!("***"),
            "environment",
            format!("{secret}, named by {}", variable("MUSTER__SECRETS__PREVIOUS_MASTER_KEY_FILE")),
        ),
    ] {
        assert_eq!(find(key), (value, source, origin.as_str()), "{key}");
        assert!(text.contains(&format!("{key} = ")), "{text}");
    }
    // The output is a configuration file, with the same settings but the secrets.
    let again = home.parent.join("again.toml");
    let lines = text.lines().filter(|line| !line.contains("***"));
    std::fs::write(&again, lines.collect::<Vec<_>>().join("\n")).unwrap();
    let mut fresh = Home::new();
    fresh.env.clear();
    let config = ["config", "show", "--json", "--config", again.to_str().unwrap()];
    let copied = fresh.run(&config).ok().json();
    for setting in settings.iter().filter(|setting| setting["value"] != "***") {
        let copied = copied["settings"].as_array().unwrap();
        let same = copied.iter().find(|other| other["key"] == setting["key"]).unwrap();
        if setting["key"] != "database.url" {
            assert_eq!(same["value"], setting["value"], "{same}");
        }
    }

    home.set("MUSTER_CONFIG", file.to_str().unwrap());
    assert_eq!(home.json(&["config", "show"])["file"]["source"], "environment");
    assert_eq!(Home::new().json(&["config", "show"])["file"], Value::Null);
    home.set("MUSTER__SERVER__WORKERS", "many");
    home.run(&["config", "show"]).fails(2, &["server.workers = \"many\""]);
    assert!(!home.data_dir.exists(), "this command needs no database");
}

/// A database after an interrupted first start.
fn without_tables() -> Home {
    let mut home = Home::new();
    home.set("MUSTER__DATABASE__MIGRATE", "false");
    home.run(&["serve"]).fails(1, &["muster migrate"]);
    home.set("MUSTER__DATABASE__MIGRATE", "true");
    home
}

#[test]
fn migrations_are_shown_and_run() {
    let home = without_tables();
    let status = home.json(&["migrate", "status"]);
    let count = status.as_array().unwrap().len();
    assert!(count >= 2);
    assert_eq!(fields(&status[0]), ["appliedAt", "description", "kind", "version"]);
    assert_eq!((&status[0]["version"], &status[0]["description"]), (&json!(1), &json!("apps")));
    assert!(status.as_array().unwrap().iter().all(|migration| migration["appliedAt"].is_null()));
    let text = home.run(&["migrate", "status"]).ok().stdout;
    assert!(text.starts_with("0001 apps: pending\n"), "{text}");

    let text = home.run(&["migrate"]).ok().stdout;
    assert!(text.starts_with("applied 0001 apps\n"), "{text}");
    assert!(text.ends_with("up to date\n"), "{text}");
    assert_eq!(home.run(&["migrate"]).ok().stdout, "nothing to do\n");
    assert_eq!(home.json(&["migrate"]), json!({ "applied": [] }));
    let text = home.run(&["migrate", "status"]).ok().stdout;
    assert_eq!(text.lines().filter(|line| line.contains(": applied 2")).count(), count, "{text}");
    let status = home.json(&["migrate", "status"]);
    assert!(status.as_array().unwrap().iter().all(|migration| migration["appliedAt"].is_string()));
    assert_eq!(home.run(&["migrate", "--json", "status"]).ok().json(), status);
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_with_earlier_comments_are_accepted() {
    let database = database().await;
    let home = Home::for_database(&database);
    store::set_earlier_migrations(&mut store::connect_to(&database).await).await;
    let text = home.run(&["migrate"]).ok().stdout;
    assert_eq!(text, "applied 0007 byte order\nthe database is up to date\n");
    assert_eq!(home.run(&["migrate"]).ok().stdout, "nothing to do\n");
}

#[test]
fn pending_migrations_wait_if_database_migrate_is_false() {
    let mut home = without_tables();
    home.set("MUSTER__DATABASE__MIGRATE", "false");
    home.run(&["app", "list"]).fails(1, &["pending", "muster migrate"]);
    home.run(&["migrate"]).ok();
    home.run(&["app", "list"]).ok();
}

#[test]
fn command_does_not_restart_postgresql() {
    let home = Home::with_database();
    let server = home.serve();
    let postmaster = home.postmaster();
    let started_at = Instant::now();
    home.run(&["app", "list"]).ok();
    println!("app list: {:?}", started_at.elapsed());
    // The command does not start or stop PostgreSQL.
    assert_eq!(home.postmaster(), postmaster);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_master_key_file_is_a_mistake_of_the_configuration() {
    let database = database().await;
    let mut home = Home::for_database(&database);
    home.set("MUSTER__SECRETS__MASTER_KEY", "");
    let (missing, malformed) = (home.parent.join("missing"), home.parent.join("malformed"));
    std::fs::write(&malformed, "no key\n").unwrap();
    for (file, cause) in [
        (&missing, "No such file"),
        (&malformed, "line 1: expected"),
        (&home.parent.clone(), "Is a directory"),
    ] {
        let file = file.to_str().unwrap();
        home.set("MUSTER__SECRETS__MASTER_KEY_FILE", file);
        for command in [
            &["serve"][..],
            &["migrate"],
            &["migrate", "status"],
            &["app", "list"],
            &["app", "create", "--buin", "1"],
            &["key", "list"],
            &["delivery", "list"],
            &["audit", "list"],
            &["secrets", "status"],
            &["secrets", "rotate"],
            &["backup", "backup"],
            &["restore", "backup"],
            &["move-to", "postgres://127.0.0.1:1/m"],
            &["feed", "new-epoch"],
        ] {
            home.run(command).fails(2, &["secrets.master_key_file", file, cause]);
        }
        let doctor = home.run(&["doctor"]);
        assert_eq!(doctor.status.code(), Some(1), "{doctor:#?}");
        assert!(doctor.stdout.contains(file), "{doctor:#?}");
    }
    assert!(!home.parent.join("backup").exists());
}
