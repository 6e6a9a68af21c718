//! The audit: one entry for each administrative action, no entry without an action, and no secret.

use std::time::Duration;

use muster::service::AuditRetention;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::process::Home;
use crate::harness::server::{database, owned_database};
use crate::harness::store::{MigrationList, MigrationScope, SHORT_WAITS};
use crate::harness::{change, new_app, spawn_app, store};

/// The audit entries of a home, the oldest first.
fn entries(home: &Home, filter: &[&str]) -> Vec<Value> {
    let lines = home.json(&[&["audit", "list"], filter].concat());
    lines.as_array().unwrap().iter().rev().cloned().collect()
}

fn actions(home: &Home, filter: &[&str]) -> Vec<String> {
    let lines = entries(home, filter);
    lines.iter().map(|line| line["action"].as_str().unwrap().to_owned()).collect()
}

/// A command about the app `mine`.
fn for_app<'a>(command: &[&'a str], options: &[&'a str]) -> Vec<&'a str> {
    const APP: [&str; 4] = ["--buin", "7", "--app-id", "mine"];
    [command, &APP, options].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_administrative_action_is_audited() {
    let database = database().await;
    let mut home = Home::for_database(&database);
    home.set("SUDO_USER", "ann\u{1b}");
    let url = "https://user:s3cret@hooks.example:8443/s3cret?key=s3cret";
    let created = home.json(&for_app(&["app", "create"], &["--name", "Mine"]));
    let callback = ["--callback-url", url, "--callback-token", "t0psecret"];
    home.json(&for_app(&["app", "update"], &callback));
    home.json(&for_app(&["app", "update"], &["--callback-token", "t0psecret2"]));
    home.json(&for_app(&["app", "update"], &["--name", "Ours", "--permissions", "callbacks"]));
    home.json(&for_app(&["app", "disable"], &[]));
    home.json(&for_app(&["app", "enable"], &[]));
    home.json(&for_app(&["app", "pause-callbacks"], &[]));
    home.json(&for_app(&["app", "resume-callbacks"], &[]));
    let rotated = home.json(&for_app(&["app", "rotate-key"], &[]));
    home.json(&for_app(&["app", "show"], &["--show-secrets"]));
    home.json(&for_app(&["app", "show"], &[]));
    let key = home.json(&for_app(&["key", "create"], &["--label", "ci"]));
    let id = key["id"].as_str().unwrap();
    home.json(&["key", "revoke", id]);

    let lines = entries(&home, &[]);
    let entries: Vec<(&str, &Value)> =
        lines.iter().map(|line| (line["action"].as_str().unwrap(), &line["details"])).collect();
    assert_eq!(entries[0].0, "secrets.seal");
    let permissions = ["sessions:read", "sessions:write", "callbacks"];
    let receiver = "https://hooks.example:8443";
    let flip = |field: &str, to: bool| json!({ field: { "from": !to, "to": to } });
    assert_eq!(
        entries[1..],
        [
            (
                "app.create",
                &json!({
                    "name": "Mine", "permissions": permissions, "forms": "both", "callback": null,
                })
            ),
            (
                "app.update",
                &json!({
                    "callback": { "from": null, "to": receiver },
                    "callbackUrl": "changed", "callbackToken": "changed",
                })
            ),
            ("app.update", &json!({ "callbackToken": "changed" })),
            (
                "app.update",
                &json!({
                    "name": { "from": "Mine", "to": "Ours" },
                    "permissions": { "from": permissions, "to": ["callbacks"] },
                })
            ),
            ("app.disable", &flip("disabled", true)),
            ("app.enable", &flip("disabled", false)),
            ("app.pause_callbacks", &flip("callbacksPaused", true)),
            ("app.resume_callbacks", &flip("callbacksPaused", false)),
            ("app.rotate_key", &json!({ "aesKey": "changed" })),
            ("app.show_secrets", &json!({ "secrets": ["aesKey", "callbackToken"] })),
            ("key.create", &json!({ "key": id, "label": "ci" })),
            ("key.revoke", &json!({ "key": id, "label": "ci" })),
        ]
    );
    for line in &lines[1..] {
        assert_eq!((&line["buin"], &line["appId"]), (&json!(7), &json!("mine")), "{line}");
        assert_eq!(line["sudoUser"], "ann\u{FFFD}", "{line}");
        assert!(!line["actor"].as_str().unwrap().is_empty(), "{line}");
        assert!(!line["host"].as_str().unwrap().is_empty(), "{line}");
        assert!(line["pid"].as_i64().unwrap() > 0 && line["at"].is_string(), "{line}");
    }
    let text = home.run(&["audit", "list"]).ok().stdout;
    for part in ["TIME (UTC)", "app.rotate_key", "7/mine", "(sudo by ann", "\"label\":\"ci\""] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let all = format!("{text}{lines:?}");
    for secret in [&created["aesKey"], &rotated["aesKey"], &key["key"]] {
        assert!(!all.contains(secret.as_str().unwrap()), "{all}");
    }
    assert!(!all.contains("s3cret") && !all.contains("t0psecret"), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_or_empty_change_has_no_entry() {
    let database = database().await;
    let home = Home::for_database(&database);
    home.json(&for_app(&["app", "create"], &[]));
    let key = home.json(&for_app(&["key", "create"], &[]));
    home.json(&["key", "revoke", key["id"].as_str().unwrap()]);
    let before = actions(&home, &[]);

    home.run(&for_app(&["app", "create"], &[])).fails(1, &["already exists"]);
    home.run(&["app", "disable", "--buin", "7", "--app-id", "other"]).fails(1, &["no app"]);
    home.run(&["key", "create", "--buin", "7", "--app-id", "other"]).fails(1, &["no app"]);
    home.run(&["key", "revoke", "0011223344556677"]).fails(1, &["no key"]);
    home.json(&for_app(&["app", "enable"], &[]));
    home.json(&for_app(&["app", "update"], &["--name", ""]));
    home.json(&["key", "revoke", key["id"].as_str().unwrap()]);
    home.json(&["delivery", "replay", "--app-id", "mine"]);
    home.json(&["app", "list"]);
    assert_eq!(actions(&home, &[]), before);

    // Without its audit entry, no action is done.
    let mut connection = store::connect_to(&database).await;
    store::refuse_audit_entries(&mut connection).await;
    for command in ["disable", "rotate-key"] {
        home.run(&for_app(&["app", command], &[])).fails(1, &["no_new_entries"]);
    }
    home.run(&for_app(&["key", "create"], &[])).fails(1, &["no_new_entries"]);
    home.run(&for_app(&["app", "show"], &["--show-secrets"])).fails(1, &["no_new_entries"]);
    home.run(&["app", "create", "--buin", "8"]).fails(1, &["no_new_entries"]);
    let apps = home.json(&["app", "list"]);
    assert_eq!(apps.as_array().unwrap().len(), 1);
    assert_eq!(apps[0]["disabled"], false);
    assert_eq!(home.json(&["key", "list"]).as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_is_searchable_and_append_only() {
    let database = database().await;
    let home = Home::for_database(&database);
    home.json(&for_app(&["app", "create"], &[]));
    home.json(&for_app(&["app", "disable"], &[]));
    home.json(&["app", "create", "--buin", "8", "--app-id", "other"]);
    let lines = entries(&home, &[]);
    let at = lines[2]["at"].as_str().unwrap();

    assert_eq!(actions(&home, &["--app-id", "mine"]), ["app.create", "app.disable"]);
    assert_eq!(actions(&home, &["--buin", "8"]), ["app.create"]);
    assert_eq!(actions(&home, &["--action", "app.create"]).len(), 2);
    assert_eq!(actions(&home, &["--action", "app"]).len(), 3);
    assert_eq!(actions(&home, &["--action", "database"]), [""; 0]);
    for invalid in ["ap", "bogus", "app.", "app.bogus", ""] {
        let refused = home.run(&["audit", "list", "--action", invalid]);
        refused.fails(2, &["--action", "app.rotate_key", "secrets.drop_keys", "database"]);
    }
    assert_eq!(actions(&home, &["--since", at]), ["app.disable", "app.create"]);
    assert_eq!(actions(&home, &["--until", at]), ["secrets.seal", "app.create"]);
    assert_eq!(entries(&home, &["--limit", "1"]), lines[3..]);
    home.run(&["audit", "list", "--limit", "0"]).fails(2, &["--limit"]);
    for option in ["--since", "--until"] {
        let forms = [option, "2024-06-10T06:13:20Z", "2024-06-10T08:13:20+02:00"];
        for text in ["monday", "yesterday", "2026-01-31", "2026-01-31 08:00"] {
            home.run(&["audit", "list", option, text]).fails(2, &forms);
        }
    }

    let mut connection = store::connect_to(&database).await;
    for error in store::audit_change_errors(&mut connection).await {
        assert!(error.contains("never changed"), "{error}");
    }
    assert_eq!(entries(&home, &[]), lines);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_has_one_entry_with_the_number_of_callbacks() {
    let database = database().await;
    let home = Home::for_database(&database);
    home.json(&for_app(&["app", "create"], &[]));
    let mut connection = store::connect_to(&database).await;
    store::insert_failed_deliveries(&mut connection, 7, "mine", 3).await;
    let id = home.json(&["delivery", "list"])[0]["id"].as_str().unwrap().to_owned();
    home.json(&["delivery", "replay", &id]);
    home.json(&["delivery", "replay", "--app-id", "mine"]);
    let lines = entries(&home, &["--action", "delivery.replay", "--app-id", "mine", "--buin", "7"]);
    let [entry] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(
        (&entry["details"]["delivery"], &entry["details"]["replayed"]),
        (&json!(id), &json!(1))
    );
    let lines = entries(&home, &["--action", "delivery.replay"]);
    assert_eq!(lines[1]["details"]["replayed"], 2);
    assert_eq!(lines[1]["details"]["state"], "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_entries_are_deleted() {
    let app = spawn_app().await;
    let stored = new_app(5, &[]);
    app.add(&stored).await;
    let day = Duration::from_secs(86_400);
    app.clock.advance(10 * day);
    change(&app, &stored, |stored| stored.app.disabled = true).await;
    let retention = AuditRetention {
        pool: app.pool.clone(),
        clock: app.clock.clone(),
        max_age: 30 * day,
        actor: store::actor(),
    };
    app.clock.advance(20 * day);
    assert_eq!(retention.prune().await.unwrap(), 0, "the entry is as old as the limit");
    app.clock.advance(day);
    // Seals of the template database, apps and keys of the harness and of this test.
    assert_eq!(retention.prune().await.unwrap(), 5);
    assert_eq!(retention.prune().await.unwrap(), 0);
    let mut actions = store::audit_actions(&app.pool).await;
    actions.sort();
    assert_eq!(actions, ["app.disable", "audit.prune"]);

    let home = Home::for_database(&app.database);
    let pruned = &entries(&home, &["--action", "audit"])[0]["details"];
    assert_eq!(pruned["records"], 5);
    let last = pruned["lastHash"].as_str().unwrap();
    home.run(&["audit", "verify", "--expect", last]).ok();
    // One more entry that is removed by hand is missed.
    let mut connection = store::connect_to(&app.database).await;
    store::tamper_with_audit(&mut connection, "delete from audit where action = 'app.disable'")
        .await;
    home.run(&["audit", "verify"]).fails(1, &["audit.prune", "does not follow the line before it"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn entry_after_a_younger_one_is_kept_with_it() {
    let app = spawn_app().await;
    let mut connection = store::connect_to(&app.database).await;
    // A server whose clock is years behind wrote the second entry.
    store::insert_audit_entry(&mut connection, "late").await;
    let retention = AuditRetention {
        pool: app.pool.clone(),
        clock: app.clock.clone(),
        max_age: Duration::from_secs(86_400),
        actor: store::actor(),
    };
    assert_eq!(retention.prune().await.unwrap(), 0);
    Home::for_database(&app.database).run(&["audit", "verify"]).ok();
}

/// Checks the chain of a home, which must be intact. Returns the result.
fn verified(home: &Home) -> Value {
    let chain = home.json(&["audit", "verify"]);
    assert_eq!(chain["intact"], true, "{chain}");
    chain
}

#[tokio::test(flavor = "multi_thread")]
async fn chain_covers_every_entry_and_its_head_stays_known() {
    let database = database().await;
    let home = Home::for_database(&database);
    let first = verified(&home);
    assert_eq!(first["lines"], 1);
    home.json(&for_app(&["app", "create"], &["--name", "\u{201c}A\\\"\u{201d}"]));
    home.json(&for_app(&["app", "disable"], &[]));
    let second = verified(&home);
    assert_eq!(second["lines"], 3);
    assert_ne!(first["head"], second["head"]);
    for chain in [&first, &second] {
        let head = chain["head"].as_str().unwrap();
        home.run(&["audit", "verify", "--expect", &head.to_uppercase()]).ok();
    }
    let printed = home.run(&["audit", "verify"]).ok();
    assert!(printed.stdout.contains("3 lines in one chain since "), "{printed:?}");
    assert!(printed.stdout.contains(second["head"].as_str().unwrap()), "{printed:?}");
    let unknown = "0".repeat(64);
    home.run(&["audit", "verify", "--expect", &unknown])
        .fails(1, &["no line has the hash", &unknown]);
    for invalid in ["", "abc", &"g".repeat(64)] {
        home.run(&["audit", "verify", "--expect", invalid])
            .fails(2, &["--expect", "64 hexadecimal"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn altered_removed_and_inserted_entries_are_found() {
    const ALTERED: &str = "has another content";
    const UNLINKED: &str = "does not follow the line before it";
    // The hash of a line that a forger computes in the same way.
    let forged = "sha256(coalesce(previous_hash, '') || convert_to(jsonb_build_array(
        (extract(epoch from at) * 1000000)::bigint, action, actor, sudo_user, host, pid, buin, app_id,
        details)::text, 'UTF8'))";
    let second = "audit_id = (select audit_id from audit order by audit_id offset 1 limit 1)";
    for (sql, text) in [
        (format!("update audit set actor = 'nobody' where {second}"), ALTERED),
        (format!("update audit set details = details || '{{\"x\": 1}}' where {second}"), ALTERED),
        (format!("update audit set at = at + interval '1 microsecond' where {second}"), ALTERED),
        (format!("update audit set sudo_user = 'ann' where {second}"), ALTERED),
        (
            format!(
                "update audit set actor = 'nobody' where {second};
                 update audit set hash = {forged} where {second}"
            ),
            UNLINKED,
        ),
        (format!("delete from audit where {second}"), UNLINKED),
        ("delete from audit where previous_hash is null".to_owned(), UNLINKED),
        (
            "update audit set audit_id = default where audit_id = (select min(audit_id) from audit)"
                .to_owned(),
            UNLINKED,
        ),
        (
            format!(
                "insert into audit (
                     at, action, actor, sudo_user, host, pid, buin, app_id, details, previous_hash, hash
                 )
                 select at, action, actor, sudo_user, host, pid, buin, app_id, details, previous_hash, hash
                 from audit where {second}"
            ),
            UNLINKED,
        ),
    ] {
        let database = database().await;
        let home = Home::for_database(&database);
        home.json(&for_app(&["app", "create"], &[]));
        home.json(&for_app(&["app", "disable"], &[]));
        home.json(&for_app(&["app", "enable"], &[]));
        let mut connection = store::connect_to(&database).await;
        store::tamper_with_audit(&mut connection, &sql).await;
        home.run(&["audit", "verify"]).fails(1, &["the audit was altered: line ", text]);
        let output = home.run(&["audit", "verify", "--json"]);
        assert_eq!((output.status.code(), &output.json()["intact"]), (Some(1), &json!(false)), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn removal_of_the_last_entries_is_found_with_an_earlier_head() {
    let database = database().await;
    let home = Home::for_database(&database);
    home.json(&for_app(&["app", "create"], &[]));
    home.json(&for_app(&["app", "disable"], &[]));
    let head = verified(&home)["head"].as_str().unwrap().to_owned();
    let mut connection = store::connect_to(&database).await;
    store::tamper_with_audit(&mut connection, "delete from audit where action = 'app.disable'")
        .await;
    verified(&home);
    home.run(&["audit", "verify", "--expect", &head]).fails(1, &["no line has the hash", &head]);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_acts_make_one_chain() {
    let app = spawn_app().await;
    let mut acts = JoinSet::new();
    for _ in 0..24 {
        let (pool, stored) = (app.pool.clone(), new_app(5, &[]));
        acts.spawn(async move { store::insert(&pool, &stored).await });
    }
    while let Some(act) = acts.join_next().await {
        act.unwrap();
    }
    let chain = verified(&Home::for_database(&app.database));
    assert!(chain["lines"].as_u64().unwrap() > 24, "{chain}");
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_an_earlier_release_are_in_the_chain() {
    /// The migration that makes the chain.
    const CHAIN: i64 = 18;
    let database = owned_database().await;
    let own = MigrationList::own();
    let migrate = async |known: &MigrationList| {
        store::migrate(&database.options, known, MigrationScope::All, SHORT_WAITS).await.unwrap()
    };
    migrate(&own.until(CHAIN - 1)).await;
    let mut connection = store::connect_to(&database).await;
    store::insert_audit_entry(&mut connection, "before").await;
    store::insert_audit_entry(&mut connection, "also before").await;
    assert_eq!(migrate(&own).await.first(), Some(&CHAIN));
    // A server of the earlier release still runs.
    store::insert_audit_entry(&mut connection, "after").await;
    for error in store::audit_change_errors(&mut connection).await {
        assert!(error.contains("never changed"), "{error}");
    }
    let home = Home::for_database(&database);
    let chain = verified(&home);
    assert!(chain["lines"].as_u64().unwrap() >= 3, "{chain}");
    store::tamper_with_audit(&mut connection, "update audit set host = 'x' where actor = 'before'")
        .await;
    home.run(&["audit", "verify"]).fails(1, &["has another content"]);
}
