//! `muster move-to`: the target database gets a complete copy, or stays empty.

use serde_json::Value;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection};

use crate::harness::process::{Home, Running};
use crate::harness::rows::{assert_same, populate, rows, start_postgres};
use crate::harness::server::{Database, database, owned_database};
use crate::harness::store;

async fn connection(database: &Database) -> PgConnection {
    PgConnection::connect_with(&database.options).await.unwrap()
}

fn url(database: &Database) -> String {
    database.options.to_url_lossy().to_string()
}

/// A home after the printed steps: the new database and the old master key.
fn home_after_move(from: &Home, to: &Database) -> Home {
    let mut home = Home::for_database(to);
    home.set("MUSTER__SECRETS__MASTER_KEY", "");
    let key = from.data_dir.join("master.key");
    home.set("MUSTER__SECRETS__MASTER_KEY_FILE", key.to_str().unwrap());
    home
}

/// Moves, and returns the printed JSON. The log with the progress is on standard error.
#[track_caller]
fn move_to(home: &Home, target: &Database) -> Value {
    let output = home.run(&["move-to", &url(target), "--json"]);
    assert!(output.status.success(), "{output:#?}");
    output.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn move_copies_everything_and_keeps_the_source() {
    let target = database().await;
    let home = Home::with_database();
    let postgres = start_postgres(&home).await;
    let mut source_connection = home.connect().await;
    let (app, sessions) = populate(&home, &mut source_connection).await;
    let before = rows(&mut source_connection).await;
    let epoch = store::epoch(&mut source_connection).await;
    let output = home.run(&["move-to", &url(&target)]);
    assert!(output.status.success(), "{output:#?}");
    assert!(output.stderr.contains("copied table=\"session_member\" rows=30"), "{output:#?}");
    let printed = output.stdout;
    for part in ["copied 6 sessions", "MUSTER__DATABASE__URL", "master.key", "muster serve"] {
        assert!(printed.contains(part), "no {part:?} in {printed}");
    }
    let mut target_connection = connection(&target).await;
    assert_same(&before, &rows(&mut target_connection).await);
    assert_same(&before, &rows(&mut source_connection).await);
    assert_eq!(store::epoch(&mut target_connection).await, epoch, "the history goes on");
    drop(source_connection);
    postgres.stop().await.unwrap();

    let new = home_after_move(&home, &target);
    assert_eq!(new.json(&["audit", "verify"])["intact"], true);
    let lines = new.json(&["audit", "list", "--action", "database.move"]);
    assert_eq!(lines[0]["details"]["sessions"], 6, "{lines}");
    let server = new.serve();
    let client = server.client(&app);
    let token = client.token().await;
    for session in &sessions {
        let found = client.get_session(&token, session["sessionId"].as_str().unwrap()).await;
        for field in ["title", "owner", "version", "member"] {
            assert_eq!(found[field], session[field], "{found}");
        }
    }
    // The audit continues with the next free numbers.
    new.json(&["app", "create", "--buin", "8"]);
    server.stop();
    home.run(&["move-to", &url(&target)])
        .fails(1, &["the target database is not empty", "Nothing was changed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn move_is_refused_while_a_server_runs() {
    let (source, target) = (database().await, database().await);
    let home = Home::for_database(&source);
    home.json(&["app", "create", "--buin", "7"]);
    let server = home.serve();
    let refused = home.run(&["move-to", &url(&target)]);
    refused.fails(1, &["1 running servers use the source database", "stop them"]);
    server.stop();
    let server = Home::for_database(&target).serve();
    let refused = home.run(&["move-to", &url(&target)]);
    refused.fails(1, &["1 running servers use the target database"]);
    server.stop();
    move_to(&home, &target);
    // The target is the source.
    home.run(&["move-to", &url(&source)]).fails(1, &["not empty: app has 1 rows"]);
    home.run(&["move-to", "http://db"]).fails(1, &["begins with postgres://"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_move_can_be_repeated() {
    let (source, target) = (database().await, database().await);
    let home = Home::for_database(&source);
    let mut source_connection = connection(&source).await;
    populate(&home, &mut source_connection).await;
    let before = rows(&mut source_connection).await;
    let mut target_connection = connection(&target).await;
    // The copy is slowed down, so that the test can interrupt it.
    target_connection
        .execute(
            "create function delay_inserts() returns trigger language plpgsql as
                 'begin perform pg_sleep(600); return new; end';
             create trigger delay_inserts before insert on session_member
                 for each row execute function delay_inserts()",
        )
        .await
        .unwrap();
    let running = Running::start(&home, &["move-to", &url(&target)]);
    let break_connection = "select count(pg_terminate_backend(pid)) from pg_stat_activity
               where datname = current_database() and wait_event = 'PgSleep'";
    while sqlx::query_scalar::<_, i64>(break_connection)
        .fetch_one(&mut target_connection)
        .await
        .unwrap()
        == 0
    {}
    running.output().fails(1, &["the target database failed", "this can be run again"]);
    target_connection.execute("drop function delay_inserts() cascade").await.unwrap();
    let empty = rows(&mut target_connection).await;
    assert!(empty["app"].is_empty() && empty["session"].is_empty(), "nothing is left");
    let moved = move_to(&home, &target);
    assert_eq!(moved["tables"]["session"]["rows"], 6, "{moved}");
    assert_same(&before, &rows(&mut target_connection).await);
    assert_same(&before, &rows(&mut source_connection).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn database_owner_role_is_sufficient() {
    let (source, moved_to, restored_to) =
        (database().await, owned_database().await, owned_database().await);
    let home = Home::for_database(&source);
    home.json(&["app", "create", "--buin", "7"]);
    let dir = home.parent.join("backup");
    let dir = dir.to_str().unwrap();
    home.json(&["backup", dir]);
    let moved = home.run(&["move-to", &url(&moved_to)]);
    let restored = Home::for_database(&restored_to).run(&["restore", dir]);
    for (output, database) in [(moved, moved_to), (restored, restored_to)] {
        assert!(output.status.success(), "{output:#?}");
        for warning in ["WARN", "skipping"] {
            assert!(!output.stderr.contains(warning), "{output:#?}");
        }
        // The planner needs statistics of the tables.
        let analyzed = "select count(*) from pg_class where relnamespace = 'public'::regnamespace
                        and relname in ('app', 'sealing') and reltuples >= 0";
        let mut target_connection = connection(&database).await;
        let analyzed: i64 =
            sqlx::query_scalar(analyzed).fetch_one(&mut target_connection).await.unwrap();
        assert_eq!(analyzed, 2);
        target_connection.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_operators_stay_behind() {
    let (source, target) = (database().await, database().await);
    let home = Home::for_database(&source);
    let mut source_connection = connection(&source).await;
    populate(&home, &mut source_connection).await;
    let before = rows(&mut source_connection).await;
    source_connection.execute("alter table session add column dba_note text").await.unwrap();
    let mut target_connection = connection(&target).await;
    let moved = home.run(&["move-to", &url(&target), "--json"]);
    assert!(moved.status.success(), "{moved:#?}");
    assert!(moved.stderr.contains("dba_note"), "{moved:#?}");
    assert_same(&before, &rows(&mut target_connection).await);
}
