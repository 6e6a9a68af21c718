//! Muster through PgBouncer, with the configuration that the manual prints.
//!
//! The tests need the program, which `.ci/pgbouncer` names. Without it they print that they were not done.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::pooler::{self, Pooler};
use crate::harness::process::Home;
use crate::harness::server::{Database, database};
use crate::harness::store::{self, PgConnectOptions, Pool};
use crate::harness::{self, TestApp, settings, spawn_on_pool, wait_until};

/// A database behind a PgBouncer.
struct Behind {
    pooler: Pooler,
    pooled: PgConnectOptions,
    database: Database,
}

/// A database behind a PgBouncer, whose configuration has these changes; `None` without the program.
async fn behind(changes: &[(&str, &str)]) -> Option<Behind> {
    let program = pooler::program()?;
    let database = database().await;
    let pooler = Pooler::start(&program, &database.options, "muster", changes);
    let pooled = pooler.options(&database.options, "muster");
    Some(Behind { pooler, pooled, database })
}

impl Behind {
    /// The configuration of servers and commands.
    fn home(&self, has_direct_url: bool) -> Home {
        let mut home = Home::new();
        home.set("MUSTER__SECRETS__MASTER_KEY", harness::MASTER_KEY);
        home.go_through(&self.pooled);
        if has_direct_url {
            home.set("MUSTER__DATABASE__DIRECT_URL", &store::url(&self.database.options));
        }
        home
    }

    fn pool(&self, settings: &muster::config::Settings) -> Pool {
        let direct = Some(self.database.options.clone());
        store::open_pooled(self.pooled.clone(), direct, settings)
    }
}

/// The names and values of the settings on which promises depend.
const SETTINGS: [&str; 8] = [
    "exit_on_error",
    "idle_in_transaction_session_timeout",
    "jit",
    "lock_timeout",
    "row_security",
    "statement_timeout",
    "transaction_isolation",
    "transform_null_equals",
];

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_a_statement_end_with_its_transaction() {
    let Some(behind) = behind(&[("default_pool_size = 20", "default_pool_size = 1")]).await else {
        return;
    };
    for (name, value) in [
        ("exit_on_error", "on"),
        ("jit", "on"),
        ("lock_timeout", "2s"),
        ("row_security", "on"),
        ("statement_timeout", "77s"),
        ("transform_null_equals", "on"),
        ("default_transaction_isolation", "repeatable read"),
    ] {
        store::set_of_role(&behind.database, name, value).await;
    }
    let direct = store::open_pool(behind.database.options.clone(), &settings());
    let expected = store::values_of_settings(&direct, &SETTINGS).await;
    assert!(expected.contains(&("statement_timeout".to_owned(), "10s".to_owned())), "{expected:?}");
    let pool = behind.pool(&settings());
    assert_eq!(store::values_of_settings(&pool, &SETTINGS).await, expected);
    // The only session of PostgreSQL has the settings of its role again.
    let mut other = store::connect_with(&behind.pooled).await;
    let of_other = store::values_of_settings(&mut other, &["statement_timeout"]).await;
    assert_eq!(of_other, [("statement_timeout".to_owned(), "77s".to_owned())]);

    let callbacks = store::values_for_callbacks(&pool).await;
    assert_eq!(
        callbacks,
        [
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
            ("enable_seqscan", "off"),
            ("plan_cache_mode", "force_generic_plan"),
            ("statement_timeout", "10s"),
            ("synchronous_commit", "off"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_the_url_reach_each_statement() {
    let Some(behind) = behind(&[]).await else { return };
    let mut home = behind.home(true);
    // Without the schema of the tables, no app is found.
    assert_eq!(home.json(&["app", "list"]), json!([]));
    let url = format!("{}&options=-c%20search_path%3Dpg_catalog", store::url(&behind.pooled));
    home.set("MUSTER__DATABASE__URL", &url).set("MUSTER__DATABASE__MIGRATE", "false");
    home.run(&["app", "list"]).fails(1, &["migrations"]);
    let url = format!("{}&options=-B%2010", store::url(&behind.pooled));
    home.set("MUSTER__DATABASE__URL", &url);
    home.run(&["app", "list"]).fails(2, &["database.url", "-c NAME=VALUE"]);
}

async fn update(app: &TestApp, session: &Value, title: &str) -> (u16, Value) {
    let id = session["sessionId"].as_str().unwrap().trim_matches(['{', '}']);
    let path = format!("/v1/sessions/{id}");
    let change = json!({ "operator": "a", "title": title });
    let request = app.client.request(Method::PATCH, &path).bearer_auth(&app.api_key).json(&change);
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn change_of_a_locked_session_is_refused_and_never_made() {
    let Some(behind) = behind(&[]).await else { return };
    let mut settings = settings();
    settings.database.statement_timeout = Duration::from_millis(500);
    let pool = behind.pool(&settings);
    let app = spawn_on_pool(settings, behind.database, pool).await;
    let session = app.session(&["a", "b", "c"]).await;
    let id = session["sessionId"].as_str().unwrap().trim_matches(['{', '}']);
    let locked = store::lock_session(store::connect(&app).await, id).await;
    let (status, refused) = update(&app, &session, "late").await;
    assert_eq!(status, 503, "{refused}");
    let running = store::running_statements(&app).await;
    assert!(running.is_empty(), "{running:?}");
    drop(locked);
    let (status, changed) = update(&app, &session, "in time").await;
    assert_eq!((status, &changed["version"]), (200, &json!(2)), "{changed}");
    let stored = app.current(&session).await;
    assert_eq!((&stored["title"], &stored["version"]), (&json!("in time"), &json!(2)), "{stored}");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_changes_of_two_servers_are_all_made() {
    let Some(behind) = behind(&[]).await else { return };
    let (first, second) = (behind.pool(&settings()), behind.pool(&settings()));
    let app = spawn_on_pool(settings(), behind.database, first).await;
    let (other, _shutdown) = app.another_instance_on(second).await;
    let session = app.session(&["a", "b", "c"]).await;
    let id = session["sessionId"].as_str().unwrap().trim_matches(['{', '}']).to_owned();
    let change = async |address: std::net::SocketAddr, member: String| {
        let url = format!("http://{address}/v1/sessions/{id}");
        let change = json!({ "operator": "a", "addMember": [member] });
        let request = harness::process::http().patch(url).bearer_auth(&app.api_key).json(&change);
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{}", response.text().await.unwrap());
    };
    let all = (0..20).map(|number| {
        let address = if number % 2 == 0 { app.address } else { other };
        change(address, format!("m{number}"))
    });
    futures_util::future::join_all(all).await;
    // Another server may answer from its cache for a moment.
    wait_until("all members", async || {
        app.current(&session).await["member"].as_array().unwrap().len() == 23
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn altered_tables_are_used_with_new_plans() {
    let Some(behind) = behind(&[]).await else { return };
    let pool = behind.pool(&settings());
    let app = spawn_on_pool(settings(), behind.database, pool).await;
    let session = app.session(&["a", "b", "c"]).await;
    for round in 0..6 {
        let (status, changed) = update(&app, &session, &format!("before {round}")).await;
        assert_eq!(status, 200, "{changed}");
    }
    for (table, column) in [("session", "title"), ("session", "owner"), ("session_event", "title")]
    {
        store::alter_text_column(&app, table, column, "varchar").await;
        for round in 0..3 {
            let (status, changed) = update(&app, &session, &format!("{table} {round}")).await;
            assert_eq!(status, 200, "{table}.{column}: {changed}");
            let list = app.client.request(Method::GET, "/v1/sessions?member=a");
            let list = list.bearer_auth(&app.api_key).send().await.unwrap();
            assert_eq!(list.status(), 200, "{table}.{column}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn given_up_statement_is_canceled() {
    let Some(behind) = behind(&[]).await else { return };
    let mut settings = settings();
    settings.database.statement_timeout = Duration::from_millis(200);
    let pool = behind.pool(&settings);
    let app = spawn_on_pool(settings, behind.database, pool).await;
    let mut connection = store::connect(&app).await;
    // Time limits do not end such a statement, so Muster gives it up.
    let pool = app.pool.clone();
    let computed = tokio::spawn(async move { store::compute_without_limit(&pool).await });
    assert!(computed.await.unwrap().is_err());
    wait_until("the end of the statement", async || {
        store::count_statements_like(&mut connection, "%pg_sleep(3600)%").await == 0
    })
    .await;
    let ended = async || app.pool.given_up_stats().ended.value() == 1;
    wait_until("a canceled statement", ended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_key_is_refused_when_the_command_has_ended() {
    let Some(behind) = behind(&[]).await else { return };
    for has_direct_url in [false, true] {
        let home = behind.home(has_direct_url);
        let app = home.json(&["app", "create", "--buin", "1"]);
        let app_id = app["appId"].as_str().unwrap();
        let server = home.serve();
        let arguments = ["key", "create", "--buin", "1", "--app-id", app_id];
        let key = home.json(&arguments)["key"].as_str().unwrap().to_owned();
        let status = async |key: &str| {
            let request = harness::process::http().get(server.url("/v1/sessions")).bearer_auth(key);
            request.send().await.unwrap().status().as_u16()
        };
        assert_eq!(status(&key).await, 200);
        // Any warning would fail the test: each running server confirms, and no other one counts.
        home.run(&["key", "revoke", &key]).ok();
        assert_eq!(status(&key).await, 401, "direct_url: {has_direct_url}");
        server.kill();
        home.run(&arguments).ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_without_a_direct_url_number_all_changes() {
    let Some(behind) = behind(&[]).await else { return };
    let open = || store::open_pooled(behind.pooled.clone(), None, &settings());
    let (first, second) = (open(), open());
    let app = spawn_on_pool(settings(), behind.database, first).await;
    let (_, _shutdown) = app.another_instance_on(second).await;
    for _ in 0..10 {
        app.session(&["a", "b", "c"]).await;
    }
    wait_until("ten numbers", async || store::feed_rows(&app.pool).await.len() == 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_need_a_session_name_the_direct_url() {
    let Some(behind) = behind(&[]).await else { return };
    let home = behind.home(false);
    let dir = home.parent.join("backup");
    for arguments in [&["backup", dir.to_str().unwrap()][..], &["secrets", "rotate"]] {
        home.run(arguments).fails(1, &["database.direct_url"]);
    }
    store::damage_migrations(&mut store::connect_to(&behind.database).await, PENDING).await;
    home.run(&["migrate"]).fails(1, &["database.direct_url"]);
    let with_direct_url = behind.home(true);
    with_direct_url.run(&["migrate", "status"]).ok();
}

/// The last migration is applied again, which fails only after a connection was opened.
const PENDING: store::MigrationFault = store::MigrationFault::OneMissing;

#[tokio::test(flavor = "multi_thread")]
async fn backup_uses_the_direct_url() {
    let Some(behind) = behind(&[]).await else { return };
    let home = behind.home(true);
    let dir = home.parent.join("backup");
    home.run(&["backup", dir.to_str().unwrap()]).ok();
    assert!(std::fs::read_dir(&dir).unwrap().count() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_the_pooler_and_what_is_lost() {
    let Some(behind) = behind(&[]).await else { return };
    let found = |home: &Home| {
        let report = home.run(&["doctor"]).stdout;
        report.lines().find(|line| line.contains("pooler")).unwrap_or_default().to_owned()
    };
    let doctor = found(&behind.home(true));
    assert!(doctor.contains("a pooler in transaction mode"), "{doctor}");
    assert!(doctor.contains("uses database.direct_url"), "{doctor}");
    let doctor = found(&behind.home(false));
    assert!(doctor.contains("poll for changed apps and keys"), "{doctor}");
    let other = database().await;
    let mut home = behind.home(false);
    home.set("MUSTER__DATABASE__DIRECT_URL", &store::url(&other.options));
    let doctor = found(&home);
    assert!(doctor.contains("leads to another database"), "{doctor}");
    home.go_through(&behind.database.options);
    home.set("MUSTER__DATABASE__DIRECT_URL", "");
    let doctor = found(&home);
    assert!(doctor.contains("leads to PostgreSQL itself"), "{doctor}");
    home.set("MUSTER__DATABASE__POOLER", "none");
    home.set("MUSTER__DATABASE__DIRECT_URL", &store::url(&behind.database.options));
    let doctor = found(&home);
    assert!(doctor.contains("database.direct_url is not used"), "{doctor}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_session_mode() {
    let Some(behind) = behind(&[("pool_mode = transaction", "pool_mode = session")]).await else {
        return;
    };
    let report = behind.home(true).run(&["doctor"]).stdout;
    assert!(report.contains("seems to be in session mode"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn undeclared_pooler_is_refused() {
    for ignored in ["", "ignore_startup_parameters = extra_float_digits,options\n"] {
        let mode = format!("{ignored}pool_mode = transaction");
        let Some(behind) = behind(&[("pool_mode = transaction", &mode)]).await else { return };
        let mut home = behind.home(false);
        home.set("MUSTER__DATABASE__POOLER", "none");
        home.run(&["app", "list"]).fails(1, &["database.pooler", "a pooler is between"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pooler_without_prepared_statements_is_refused() {
    let without = ("max_prepared_statements = 200", "max_prepared_statements = 0");
    let Some(behind) = behind(&[without]).await else { return };
    behind.home(true).run(&["app", "list"]).fails(1, &["1.21 or newer", "max_prepared_statements"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_refused_while_the_pool_is_full_and_nothing_is_done() {
    let full = ("default_pool_size = 20", "default_pool_size = 1");
    let Some(behind) = behind(&[full]).await else { return };
    let mut settings = settings();
    settings.database.acquire_timeout = Duration::from_secs(3);
    settings.delivery.enabled = false;
    let pool = behind.pool(&settings);
    let mut other = store::connect_with(&behind.pooled).await;
    let app = spawn_on_pool(settings, behind.database, pool).await;
    let session = app.session(&["a", "b", "c"]).await;
    store::begin(&mut other).await;
    store::select_one_on(&mut other).await;
    let (status, refused) = update(&app, &session, "late").await;
    assert_eq!(status, 503, "{refused}");
    store::commit(&mut other).await;
    wait_until("a change", async || update(&app, &session, "in time").await.0 == 200).await;
    assert_eq!(app.current(&session).await["version"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_go_on_after_a_restart_of_the_pooler() {
    let Some(behind) = behind(&[]).await else { return };
    let pool = behind.pool(&settings());
    let app = spawn_on_pool(settings(), behind.database, pool).await;
    let session = app.session(&["a", "b", "c"]).await;
    // It closes all connections at once, and the test starts another one at the same address.
    let _pooler = behind.pooler.restart();
    wait_until("a change", async || update(&app, &session, "again").await.0 == 200).await;
}
