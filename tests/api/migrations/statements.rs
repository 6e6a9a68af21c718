//! Statements of a migration: one after the other, beside other users of the tables, through kills.

use std::error::Error as _;
use std::process::{Child, Command, Stdio};

use chrono::Duration;
use serde_json::json;

use super::{FEW_ATTEMPTS, PLANTED, migrate, planted};
use crate::harness::store::{
    MigrationError, MigrationList, MigrationScope, SHORT_WAITS, SchemaStatus,
};
use crate::harness::{TestApp, spawn_app, store, test_start_time, wait_until};

/// Two ways to change all rows in batches: after the position of the batch before, and by the rows that are
/// left. Both count the changes of each row.
const BACKFILLS: [&str; 2] = [
    "-- kind: expand
     alter table session add column counted integer not null default 0;
     -- batched
     with batch as (
         select session_id from session
         where session_id > coalesce($1::uuid, '00000000-0000-0000-0000-000000000000')
         order by session_id limit 20 for no key update
     ), changed as (
         update session set counted = counted + 1
         from batch where batch.session_id = session.session_id
     )
     select session_id::text from batch order by session_id desc limit 1",
    "-- kind: expand
     alter table session add column counted integer not null default 0, add column filled text;
     -- batched
     update session set counted = counted + 1, filled = title
     where session_id in (
         select session_id from session where filled is null
         order by session_id limit 20 for no key update
     )",
];

async fn add_sessions(app: &TestApp, count: i32) {
    store::insert_many_sessions(app, test_start_time() - Duration::days(1), count).await;
}

async fn migrate_to_error(app: &TestApp, known: &MigrationList) -> MigrationError {
    let scope = MigrationScope::All;
    store::migrate(&app.database.options, known, scope, FEW_ATTEMPTS).await.unwrap_err()
}

#[tokio::test]
async fn failed_statement_is_repeated_by_the_next_run() {
    let app = spawn_app().await;
    for _ in 0..2 {
        app.session(&["a", "b", "c"]).await;
    }
    let known = planted(
        "-- kind: expand\ncreate table note (id int);\ninsert into note values (1);\n\
         create unique index concurrently session_by_only_title on session (title);\n\
         insert into note values (2)",
    );
    let error = migrate_to_error(&app, &known).await;
    assert!(
        matches!(error, MigrationError::Failed { version: PLANTED, statement: 3, .. }),
        "{error:?}"
    );
    assert!(error.source().unwrap().to_string().contains("session_by_only_title"), "{error:?}");
    // The statements before it are done, and an index that is not whole is left.
    assert_eq!(store::number(&app.pool, "select count(*) from note").await, 1);
    let invalid = "select count(*) from pg_index where not indisvalid";
    assert_eq!(store::number(&app.pool, invalid).await, 1);
    let options = &app.database.options;
    assert!(matches!(store::schema_status(options, &known).await, SchemaStatus::Pending(_)));
    let own = MigrationList::own();
    assert_eq!(store::schema_status(options, &own).await, SchemaStatus::Extended(vec![PLANTED]));

    store::execute_all(&app.pool, "update session set title = session_id::text").await;
    assert_eq!(migrate(&app, &known, MigrationScope::All).await, [PLANTED]);
    assert_eq!(store::number(&app.pool, "select count(*) from note").await, 2);
    assert_eq!(store::number(&app.pool, invalid).await, 0);
    assert_eq!(store::schema_status(options, &known).await, SchemaStatus::Current);
    assert_eq!(migrate(&app, &known, MigrationScope::All).await, [0_i64; 0]);
}

#[tokio::test]
async fn index_that_was_built_before_a_kill_is_not_built_again() {
    let app = spawn_app().await;
    let known =
        planted("-- kind: expand\ncreate index concurrently session_by_title on session (title)");
    migrate(&app, &known, MigrationScope::All).await;
    let index = "select 'session_by_title'::regclass::oid::int8";
    let built = store::number(&app.pool, index).await;
    let unfinished = "update _sqlx_migrations set success = false, statements_done = 0
                      where version = 9001";
    store::execute_all(&app.pool, unfinished).await;
    assert_eq!(migrate(&app, &known, MigrationScope::All).await, [PLANTED]);
    assert_eq!(store::number(&app.pool, index).await, built);
}

/// Earlier programs recorded the position in a column `place`.
#[tokio::test]
async fn backfill_goes_on_at_the_position_that_an_earlier_program_recorded() {
    let app = spawn_app().await;
    add_sessions(&app, 60).await;
    let known = planted(BACKFILLS[0]);
    migrate(&app, &known, MigrationScope::All).await;
    store::execute_all(
        &app.pool,
        "alter table _sqlx_migrations rename column position to place;
         update _sqlx_migrations
         set success = false, statements_done = 1,
             place = (select session_id from session order by session_id offset 39 limit 1)
         where version = 9001",
    )
    .await;
    assert_eq!(migrate(&app, &known, MigrationScope::All).await, [PLANTED]);
    let repeated = "select count(*) from session where (to_jsonb(session) ->> 'counted')::int8 = 2";
    assert_eq!(store::number(&app.pool, repeated).await, 20);
    let old = "select count(*) from pg_attribute
               where attrelid = '_sqlx_migrations'::regclass and attname = 'place'";
    assert_eq!(store::number(&app.pool, old).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn table_in_use_delays_a_migration_and_no_request() {
    let app = spawn_app().await;
    let session = app.session(&["a", "b", "c"]).await;
    let mut reader = store::connect(&app).await;
    store::begin_reading(&mut reader, "session").await;
    let known = planted("-- kind: expand\nalter table session add column note text");
    let options = app.database.options.clone();
    let migrating = tokio::spawn({
        let known = known.clone();
        async move { store::migrate(&options, &known, MigrationScope::All, SHORT_WAITS).await }
    });
    let mut observer = store::connect(&app).await;
    store::wait_for_blocked_statement(&mut observer).await;
    // Every request would wait behind the migration until the reader ends.
    for number in 0..20 {
        let title = format!("t{number}");
        let changed = app.change(&session, "a", json!({ "title": title })).await;
        assert_eq!(changed["errcode"], 0, "{changed}");
        let list = app.client.get("/v1/sessions?limit=3").await;
        assert_ne!(list.status().as_u16(), 503);
    }
    assert!(!migrating.is_finished(), "the reader still holds the table");
    store::unlock(&mut reader).await;
    assert_eq!(migrating.await.unwrap().unwrap(), [PLANTED]);
    assert_eq!(store::number(&app.pool, "select count(note) from session").await, 0);
}

#[tokio::test]
async fn table_that_stays_in_use_ends_a_run_with_an_error_that_names_the_statement() {
    let app = spawn_app().await;
    let mut reader = store::connect(&app).await;
    store::begin_reading(&mut reader, "session").await;
    let known = planted(
        "-- kind: expand\ncreate table note (id int);\nalter table session add column note text",
    );
    let error = migrate_to_error(&app, &known).await;
    assert!(
        matches!(error, MigrationError::Locked { version: PLANTED, statement: 2, attempts: 3, .. }),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(text.contains("statement 2 of migration 9001") && text.contains("3 times"), "{text}");
    store::unlock(&mut reader).await;
    assert_eq!(migrate(&app, &known, MigrationScope::All).await, [PLANTED]);
}

#[tokio::test]
async fn row_in_use_delays_a_batch() {
    let app = spawn_app().await;
    let session = app.session(&["a", "b", "c"]).await;
    let id = session["sessionId"].as_str().unwrap().trim_matches(['{', '}']);
    let mut writer = store::lock_session(store::connect(&app).await, id).await;
    let known = planted(
        "-- kind: expand
         -- batched
         with batch as (
             select session_id from session
             where session_id > coalesce($1::uuid, '00000000-0000-0000-0000-000000000000')
             order by session_id limit 20 for no key update
         ), changed as (
             update session set title = 'filled'
             from batch where batch.session_id = session.session_id
         )
         select session_id::text from batch order by session_id desc limit 1",
    );
    let error = migrate_to_error(&app, &known).await;
    assert!(matches!(error, MigrationError::Locked { statement: 1, .. }), "{error:?}");
    store::unlock(&mut writer).await;
    migrate(&app, &known, MigrationScope::All).await;
    let filled = "select count(*) from session where title = 'filled'";
    assert_eq!(store::number(&app.pool, filled).await, 1);
}

#[tokio::test]
async fn only_one_program_migrates_at_a_time_and_the_others_wait_without_a_statement() {
    let app = spawn_app().await;
    let mut other = store::connect(&app).await;
    store::lock_migrations(&mut other).await;
    let known = planted("-- kind: expand\ncreate table note (id int)");
    let options = app.database.options.clone();
    let migrating = tokio::spawn({
        let known = known.clone();
        async move { store::migrate(&options, &known, MigrationScope::All, SHORT_WAITS).await }
    });
    let mut observer = store::connect(&app).await;
    wait_until("an attempt to get the lock", async || {
        store::has_statement(&mut observer, "pg_try_advisory_lock").await
    })
    .await;
    // A statement that waited would have a snapshot, which keeps this index from being finished.
    let sql = "create index concurrently session_by_title on session (title)";
    store::execute_all(&mut other, sql).await;
    assert_eq!(store::migration_progress(&mut observer, PLANTED).await, None);
    store::close(other).await.unwrap();
    assert_eq!(migrating.await.unwrap().unwrap(), [PLANTED]);
}

/// The database that another process migrates: the index of its backfill, and the URL.
const MIGRATE: &str = "MUSTER_TEST_MIGRATE";

/// Not a test: the process that [`start_process`] starts.
#[tokio::test]
#[ignore = "migrates for another test, which starts it"]
async fn migrate_in_another_process() {
    let Ok(task) = std::env::var(MIGRATE) else { return };
    let (index, url) = task.split_once('=').unwrap();
    store::migrate_url(url, &planted(BACKFILLS[index.parse::<usize>().unwrap()])).await;
}

fn start_process(app: &TestApp, index: usize) -> Child {
    let url = store::url(&app.database.options);
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "migrations::statements::migrate_in_another_process", "--ignored"])
        .env(MIGRATE, format!("{index}={url}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn backfill_goes_on_after_kills_and_changes_each_row_once() {
    const SESSIONS: i32 = 4_000;
    const KILLS: usize = 4;
    for (index, backfill) in BACKFILLS.into_iter().enumerate() {
        let app = spawn_app().await;
        add_sessions(&app, SESSIONS).await;
        let mut observer = store::connect(&app).await;
        let mut kills = 0;
        for _ in 0..KILLS {
            let before = changed_rows(&mut observer).await;
            let mut process = start_process(&app, index);
            wait_until("a batch", async || {
                changed_rows(&mut observer).await > before || process.try_wait().unwrap().is_some()
            })
            .await;
            process.kill().unwrap();
            process.wait().unwrap();
            kills += usize::from(changed_rows(&mut observer).await < i64::from(SESSIONS));
        }
        assert!(kills > 0, "no kill came before the last batch");
        let known = planted(backfill);
        migrate(&app, &known, MigrationScope::All).await;
        assert_eq!(changed_rows(&mut observer).await, i64::from(SESSIONS), "{index}");
        let status = store::schema_status(&app.database.options, &known).await;
        assert_eq!(status, SchemaStatus::Current);
        println!("{kills} kills in the middle of backfill {index}");
    }
}

/// The number of sessions that were changed, each once. Fails if one was changed twice.
async fn changed_rows(observer: &mut store::PgConnection) -> i64 {
    let sql = "select coalesce(sum((to_jsonb(session) ->> 'counted')::int8), 0)::int8 from session";
    let changes = store::number(&mut *observer, sql).await;
    let sql = "select count(*) from session where (to_jsonb(session) ->> 'counted')::int8 > 0";
    // Read second, so that it is not lower while batches run.
    let rows = store::number(observer, sql).await;
    assert!(changes <= rows, "{changes} changes of {rows} rows");
    rows
}
