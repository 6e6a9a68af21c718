//! The plan of a migration, which changes nothing.

use muster::service::admin::AdminContext;
use muster::service::admin::schema_plan::{self, PlannedStatement};
use serde_json::Value;

use super::{PLANTED, migrate, planted};
use crate::harness::process::Home;
use crate::harness::server::owned_database;
use crate::harness::store::{MigrationList, MigrationScope, SHORT_WAITS};
use crate::harness::{TestApp, keyring, spawn_app, store, test_start_time};

fn admin(app: &TestApp, known: &MigrationList) -> AdminContext {
    AdminContext::new(app.pool.clone(), keyring(), store::actor(), app.clock.clone())
        .with_migrations(known.clone(), SHORT_WAITS)
}

#[tokio::test]
async fn plan_names_the_lock_the_size_and_a_duration_that_grows_with_the_rows() {
    let app = spawn_app().await;
    store::insert_many_sessions(&app, test_start_time() - chrono::Duration::days(1), 2_000).await;
    store::execute_all(&app.pool, "analyze session").await;
    let sql = "-- kind: expand
               create table note (id int);
               alter table session add column note text;
               create index concurrently session_by_note on session (note);
               -- batched
               update session set note = '' where session_id in (
                   select session_id from session where note is null limit 1000);
               drop index session_by_owner;";
    let known = planted(sql).with(PLANTED + 1, "remove", "-- kind: contract\ndrop table note");
    let plans = schema_plan::plan(&admin(&app, &known), false).await.unwrap();
    assert_eq!(plans.len(), 1, "{plans:?}");
    assert_eq!(plans[0].migration.kind, Some("expand"));
    let statements = &plans[0].statements;
    let found: Vec<_> = statements
        .iter()
        .map(|step| (step.mode, step.lock, step.waiting, step.table.as_deref(), step.rows))
        .collect();
    assert_eq!(
        found,
        [
            ("transaction", "none", "none", None, 0),
            ("transaction", "ACCESS EXCLUSIVE", "all", Some("session"), 2_000),
            ("alone", "SHARE UPDATE EXCLUSIVE", "none", Some("session"), 2_000),
            ("batches", "ROW EXCLUSIVE", "none", Some("session"), 2_000),
            ("transaction", "ACCESS EXCLUSIVE", "all", Some("session"), 2_000),
        ]
    );
    let [_, add, index, fill, drop] = statements.as_slice() else { panic!("{statements:?}") };
    assert!(index.duration > add.duration && fill.duration > index.duration, "{statements:?}");
    assert_eq!(drop.duration, add.duration);
    assert!(add.bytes > 100_000, "{add:?}");
    assert!(fill.sql.starts_with("update session set note = '' where"), "{fill:?}");

    let all = schema_plan::plan(&admin(&app, &known), true).await.unwrap();
    assert_eq!(all.len(), 2, "{all:?}");
    // A run that was interrupted has done some statements.
    let (options, scope) = (&app.database.options, MigrationScope::All);
    let broken = planted("-- kind: expand\ncreate table note (id int);\nselect 1 / 0");
    store::migrate(options, &broken, scope, SHORT_WAITS).await.unwrap_err();
    let plans = schema_plan::plan(&admin(&app, &broken), false).await.unwrap();
    let done = plans[0].statements.iter().map(|statement: &PlannedStatement| statement.is_done);
    assert_eq!(done.collect::<Vec<_>>(), [true, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_of_the_program_changes_nothing() {
    let database = owned_database().await;
    store::migrate_to(&database.options, 12).await;
    let home = Home::for_database(&database);
    let text = home.run(&["migrate", "--plan"]).ok().stdout;
    assert!(text.starts_with("0013 consumers ("), "{text}");
    assert!(text.contains("  1. create table consumer "), "{text}");
    assert!(text.ends_with(" s in all; nothing was changed\n"), "{text}");
    let plan = home.run(&["migrate", "--plan", "--json"]).ok().json();
    assert_eq!((&plan[0]["version"], &plan[0]["kind"]), (&Value::from(13), &Value::Null));
    let first = &plan[0]["statements"][0];
    assert_eq!(
        (&first["lock"], &first["waiting"], &first["done"]),
        (&Value::from("none"), &Value::from("none"), &Value::from(false))
    );
    assert!(first["estimatedMs"].as_u64().is_some(), "{first}");

    let status = home.json(&["migrate", "status"]);
    assert!(status[12]["appliedAt"].is_null() && status[11]["appliedAt"].is_string(), "{status}");
    home.run(&["migrate"]).ok();
    assert_eq!(home.run(&["migrate", "--plan"]).ok().stdout, "nothing to do\n");
    assert_eq!(home.json(&["migrate", "--plan"]), Value::Array(Vec::new()));
}

#[tokio::test]
async fn plan_of_a_current_schema_is_empty() {
    let app = spawn_app().await;
    let known = planted("-- kind: expand\ncreate table note (id int)");
    migrate(&app, &known, MigrationScope::All).await;
    assert!(schema_plan::plan(&admin(&app, &known), true).await.unwrap().is_empty());
}
