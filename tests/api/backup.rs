//! `muster backup` and `muster restore`: a restore is complete, or it restores nothing.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use muster::postgres::backup::COLUMNS;
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection};

use crate::backup_security::sign;
use crate::harness::process::{Home, Running, Server, children, wait_for};
use crate::harness::rows::{assert_same, populate, rows, start_postgres};
use crate::harness::server::{Database, database, owned_database};
use crate::harness::{store, wait_until};

async fn connection(database: &Database) -> PgConnection {
    PgConnection::connect_with(&database.options).await.unwrap()
}

/// The directory of a backup of a home.
fn place(home: &Home, name: &str) -> PathBuf {
    home.parent.join(name)
}

#[track_caller]
fn backup(home: &Home, name: &str) -> PathBuf {
    let dir = place(home, name);
    home.json(&["backup", dir.to_str().unwrap()]);
    dir
}

/// A home with a new data directory and the master key of another one.
fn with_key_of(other: &Home) -> Home {
    let home = Home::new();
    fs::create_dir(&home.data_dir).unwrap();
    fs::copy(other.data_dir.join("master.key"), home.data_dir.join("master.key")).unwrap();
    home
}

fn manifest(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("backup.json")).unwrap()).unwrap()
}

/// Changes the manifest as a holder of the master key can.
fn rewrite(dir: &Path, change: impl FnOnce(&mut Value)) {
    let mut changed = manifest(dir);
    change(&mut changed);
    sign(&mut changed);
    fs::write(dir.join("backup.json"), changed.to_string()).unwrap();
}

/// A page of the feed: its status and body.
async fn feed_page(server: &Server, key: &str, query: &str) -> (u16, Value) {
    let url = server.url(&format!("/v1/events?{query}"));
    let response = server.plain_client(key).http.get(url).bearer_auth(key).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// The app can read its sessions, and they are unchanged.
async fn serves(server: &Server, app: &Value, sessions: &[Value]) {
    let client = server.client(app);
    let token = client.token().await;
    for session in sessions {
        let id = session["sessionId"].as_str().unwrap();
        let found = client.get_session(&token, id).await;
        assert_eq!(found["errcode"], 0, "{found}");
        for field in ["title", "owner", "version", "member"] {
            assert_eq!(found[field], session[field], "{field}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_under_load_is_one_snapshot() {
    let home = Home::with_database();
    home.json(&[
        "app",
        "create",
        "--buin",
        "14731009",
        "--callback-url",
        "http://127.0.0.1:1/",
        "--callback-token",
        "hush-hush",
    ]);
    let postgres = start_postgres(&home).await;
    let server = home.serve();
    let ended = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let (plain, ended) = (server.plain_client(&home.api_key()), ended.clone());
            tokio::spawn(async move {
                while !ended.load(Ordering::Relaxed) {
                    let session = plain.create().await;
                    for title in ["one", "two"] {
                        let change = json!({ "sessionId": session["sessionId"], "opUser": "a",
                                             "title": title, "addMember": [title] });
                        assert_eq!(plain.post("update", &change).await["errcode"], 0);
                    }
                }
            })
        })
        .collect();
    let mut live = home.connect().await;
    let events = "select count(*) from session_event";
    while sqlx::query_scalar::<_, i64>(events).fetch_one(&mut live).await.unwrap() < 50 {}
    let dir = backup(&home, "under-load");
    let at_end: i64 = sqlx::query_scalar(events).fetch_one(&mut live).await.unwrap();
    ended.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    server.stop();
    let saved = manifest(&dir)["tables"]["session_event"]["rows"].as_i64().unwrap();
    assert!(50 <= saved && saved <= at_end, "{saved} of {at_end}");
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);

    let fresh = with_key_of(&home);
    fresh.json(&["restore", dir.to_str().unwrap()]);
    let server = fresh.serve();
    let mut restored = fresh.connect().await;
    let torn: i64 = sqlx::query_scalar(
        "select count(*) from session as s
         where version <> (select count(*) from session_event as e where e.session_id = s.session_id)
            or member_count <> (select count(*) from session_member as m
                                where m.session_id = s.session_id)
            or version <> (select count(*) from delivery as d where d.session_id = s.session_id)
            or title <> (select title from session_event as e
                         where e.session_id = s.session_id and e.version = s.version)",
    )
    .fetch_one(&mut restored)
    .await
    .unwrap();
    assert_eq!(torn, 0, "a change is restored only in part");
    let (then, now) = (rows(&mut restored).await, rows(&mut live).await);
    let now: BTreeSet<&String> = now["session_event"].iter().collect();
    assert_eq!(i64::try_from(then["session_event"].len()).unwrap(), saved);
    assert!(then["session_event"].iter().all(|event| now.contains(event)));
    server.stop();
    postgres.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn restore_into_embedded_database_is_complete() {
    let home = Home::with_database();
    let postgres = start_postgres(&home).await;
    let mut live = home.connect().await;
    let (app, sessions) = populate(&home, &mut live).await;
    let (before, epoch) = (rows(&mut live).await, store::epoch(&mut live).await);
    let dir = place(&home, "backup");
    let printed = home.run(&["backup", dir.to_str().unwrap()]).ok().stdout;
    assert!(printed.contains("backed up 6 sessions"), "{printed}");
    assert!(printed.contains(home.data_dir.join("master.key").to_str().unwrap()), "{printed}");
    let names = |dir: &Path| {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        entries.map(|name| name.into_string().unwrap()).collect::<BTreeSet<_>>()
    };
    assert_eq!(names(&dir), BTreeSet::from(["backup.json".to_owned(), "dump".to_owned()]));
    let with_key = place(&home, "with-key");
    let printed = home.run(&["backup", "--with-key", with_key.to_str().unwrap()]).ok().stdout;
    assert!(printed.contains("WARNING: the master key"), "{printed}");
    drop(live);
    postgres.stop().await.unwrap();

    let fresh = Home::new();
    let refused = fresh.run(&["restore", dir.to_str().unwrap()]);
    refused
        .fails(1, &["sealed with the master key", "no key is available here", "data/master.key"]);
    assert!(!fresh.data_dir.exists(), "a refused restore creates no data directory");
    let refused = fresh.run(&["restore", with_key.to_str().unwrap()]);
    refused.fails(1, &["only the master key in the backup itself", "--accept-unauthenticated"]);
    assert!(!fresh.data_dir.exists(), "a refused restore creates no data directory");
    let accepted = ["restore", "--accept-unauthenticated", with_key.to_str().unwrap()];
    let restored = fresh.run(&accepted).ok().stdout;
    assert!(restored.contains("6 sessions"), "{restored}");
    let other = with_key_of(&home);
    other.json(&["restore", dir.to_str().unwrap()]);
    for home in [&fresh, &other] {
        let postgres = start_postgres(home).await;
        let mut restored = home.connect().await;
        assert_same(&before, &rows(&mut restored).await);
        // A change after the backup could have the number of a change after the restore.
        assert_ne!(store::epoch(&mut restored).await, epoch);
        let server = home.serve();
        serves(&server, &app, &sessions).await;
        server.stop();
        postgres.stop().await.unwrap();
    }
    let lines = fresh.json(&["audit", "list", "--action", "database"]);
    assert_eq!(lines[0]["action"], "database.restore", "{lines}");
}

#[tokio::test(flavor = "multi_thread")]
async fn restore_expires_the_cursors_of_the_feed() {
    let home = Home::with_database();
    home.json(&["app", "create", "--buin", "7", "--app-id", "mine"]);
    let key = home.json(&["key", "create", "--buin", "7", "--app-id", "mine"]);
    let key = key["key"].as_str().unwrap();
    let server = home.serve();
    server.plain_client(key).create().await;
    let mut page = Value::Null;
    wait_until("the number of the change", async || {
        page = feed_page(&server, key, "after=0").await.1;
        page["headSeq"] == 1
    })
    .await;
    server.stop();
    let cursor = page["nextCursor"].as_str().unwrap();
    let dir = backup(&home, "backup");
    let restored = with_key_of(&home);
    restored.json(&["restore", dir.to_str().unwrap()]);
    for (home, expected) in [(&home, 200), (&restored, 410)] {
        let server = home.serve();
        let (status, found) = feed_page(&server, key, &format!("after={cursor}")).await;
        assert_eq!(status, expected, "{found}");
        let code = (expected == 410).then_some("cursor_expired");
        assert_eq!(found["code"].as_str(), code, "{found}");
        let (_, again) = feed_page(&server, key, "after=0").await;
        assert_eq!(again["events"].as_array().unwrap().len(), 1, "{again}");
        server.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restore_into_external_database_is_complete() {
    let (one, other) = (database().await, database().await);
    let (mut home, fresh) = (Home::for_database(&one), Home::for_database(&other));
    let mut live = connection(&one).await;
    let (app, sessions) = populate(&home, &mut live).await;
    let before = rows(&mut live).await;
    // The programs of PostgreSQL read these variables, which name another database.
    home.set("PGHOST", "nowhere.invalid").set("PGSERVICE", "nothing");
    let dir = backup(&home, "backup");
    let mut restored = connection(&other).await;
    fresh.json(&["restore", dir.to_str().unwrap()]);
    assert_same(&before, &rows(&mut restored).await);
    let server = fresh.serve();
    serves(&server, &app, &sessions).await;
    // Sequences continue after their last values.
    fresh.json(&["app", "create", "--buin", "8"]);
    server.stop();
    assert_eq!(fresh.json(&["audit", "verify"])["intact"], true);
    let lines = home.json(&["audit", "list", "--action", "database.backup"]);
    assert_eq!(lines[0]["details"]["sessions"], 6, "{lines}");
}

#[test]
fn long_data_directory_path_is_backed_up() {
    let home = Home::named(&["a-rather-long-name"; 12].join("/"));
    home.serve().stop();
    let dir = backup(&home, "backup");
    assert_eq!(manifest(&dir)["tables"]["app"]["rows"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_backup_or_target_is_refused() {
    let (one, other) = (database().await, database().await);
    let (home, mut fresh) = (Home::for_database(&one), Home::for_database(&other));
    let mut target = connection(&other).await;
    home.json(&["app", "create", "--buin", "7", "--app-id", "mine"]);
    let complete = backup(&home, "complete");
    home.run(&["backup", complete.to_str().unwrap()])
        .fails(1, &["is not empty", "a new or an empty"]);

    let dump = fs::read(complete.join("dump")).unwrap();
    let saved = fs::read(complete.join("backup.json")).unwrap();
    let broken = |change: &dyn Fn(&Path), parts: &[&str]| {
        fs::write(complete.join("dump"), &dump).unwrap();
        fs::write(complete.join("backup.json"), &saved).unwrap();
        change(&complete);
        fresh.run(&["restore", complete.to_str().unwrap()]).fails(1, parts);
    };
    let tampered = |dir: &Path| {
        let mut bytes = dump.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(dir.join("dump"), bytes).unwrap();
    };
    broken(&tampered, &["dump was changed or is damaged", "SHA-256", "nothing was restored"]);
    let truncated = |dir: &Path| fs::write(dir.join("dump"), &dump[..dump.len() - 9]).unwrap();
    broken(&truncated, &["dump was changed or is damaged", "bytes instead of"]);
    let truncate = |dir: &Path| fs::write(dir.join("backup.json"), &saved[..99]).unwrap();
    broken(&truncate, &["backup.json does not have the form that this Muster writes"]);
    let no_manifest = |dir: &Path| fs::remove_file(dir.join("backup.json")).unwrap();
    broken(&no_manifest, &["holds no whole backup", "interrupted"]);
    let newer = |dir: &Path| rewrite(dir, |it| it["migrations"] = json!([1, 99]));
    broken(&newer, &["the backup is newer than this program", "[99]"]);
    let form = |dir: &Path| rewrite(dir, |it| it["format"] = json!(99));
    broken(&form, &["format 99"]);
    let major = |dir: &Path| rewrite(dir, |it| it["postgres"] = json!(99));
    broken(&major, &["was made of PostgreSQL 99, and the target is PostgreSQL"]);
    let tool = |dir: &Path| rewrite(dir, |it| it["pgDump"] = json!(99));
    broken(&tool, &["found no pg_dump and pg_restore of PostgreSQL 99", "database.postgres_dir"]);
    let apps = "select count(*) from app";
    assert_eq!(sqlx::query_scalar::<_, i64>(apps).fetch_one(&mut target).await.unwrap(), 0);

    fs::write(complete.join("backup.json"), &saved).unwrap();
    fs::write(complete.join("dump"), &dump).unwrap();
    let right = fresh.env.len();
    fresh.set("MUSTER__SECRETS__MASTER_KEY", &"07".repeat(32));
    let refused = fresh.run(&["restore", complete.to_str().unwrap()]);
    let id = home.json(&["secrets", "status"])["active"].as_str().unwrap().to_owned();
    refused.fails(1, &[&id, "nothing was restored", "secrets.master_key_file"]);
    fresh.env.truncate(right);

    let server = fresh.serve();
    fresh
        .run(&["restore", complete.to_str().unwrap()])
        .fails(1, &["1 running servers", "stop them"]);
    server.stop();
    // The checksum of a table detects a change that the checksum of the file does not.
    rewrite(&complete, |it| it["tables"]["app"]["checksum"] = json!("0"));
    let refused = fresh.run(&["restore", complete.to_str().unwrap()]);
    refused.fails(
        1,
        &["the copied data differ from the backup: app has the same number of rows, but different rows. Nothing was"],
    );
    assert_eq!(sqlx::query_scalar::<_, i64>(apps).fetch_one(&mut target).await.unwrap(), 0);
    fs::write(complete.join("backup.json"), &saved).unwrap();
    fresh.json(&["restore", complete.to_str().unwrap()]);
    let refused = fresh.run(&["restore", complete.to_str().unwrap()]);
    refused.fails(1, &["the target database is not empty: app has 1 rows", "Nothing was changed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_backup_is_refused() {
    let (one, other) = (database().await, database().await);
    let (mut home, fresh) = (Home::for_database(&one), Home::for_database(&other));
    let mut url = one.options.to_url_lossy();
    if url.password().is_none() {
        // A server without password authentication accepts any password.
        url.set_password(Some("sesame")).unwrap();
    }
    home.set("MUSTER__DATABASE__URL", url.as_str());
    home.json(&["app", "create", "--buin", "7"]);
    let mut live = connection(&one).await;
    let mut busy = live.begin().await.unwrap();
    // A read of this table waits.
    busy.execute("lock table delivery_attempt in access exclusive mode").await.unwrap();
    let dir = place(&home, "cut");
    let running = Running::start(&home, &["backup", dir.to_str().unwrap()]);
    wait_for("the file", || dir.join("dump").exists().then_some(()));
    let mut looking = connection(&one).await;
    let waiting = "select count(*) from pg_stat_activity
                   where application_name in ('muster copy', 'pg_dump') and wait_event_type = 'Lock'
                     and datname = current_database()";
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut looking).await.unwrap() == 0 {}
    // Command lines are visible to all users.
    let lines: Vec<String> = children(running.pid())
        .iter()
        .map(|pid| fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap())
        .map(|line| String::from_utf8(line).unwrap())
        .collect();
    assert!(lines.iter().any(|line| line.contains("pg_dump")), "{lines:?}");
    let password = url.password().unwrap();
    assert!(
        lines.iter().all(|line| !line.contains(password) && !line.contains("://")),
        "{lines:?}"
    );
    running.signal(Signal::KILL);
    drop(running);
    busy.rollback().await.unwrap();
    fresh.run(&["restore", dir.to_str().unwrap()]).fails(1, &["holds no whole backup"]);
    home.run(&["backup", dir.to_str().unwrap()]).fails(1, &["is not empty"]);
}

/// Columns of operators are not copied. Their names and types have no effect.
#[tokio::test(flavor = "multi_thread")]
async fn columns_of_operators_are_left_out() {
    let (one, other, earlier) = (database().await, database().await, database().await);
    let home = Home::for_database(&one);
    let mut live = connection(&one).await;
    populate(&home, &mut live).await;
    let before = rows(&mut live).await;
    live.execute(
        r#"alter table session add column dba_note text, add column "A ""b""; --" integer[];
           alter table api_key add column twice text generated always as (label || label) stored;
           alter table session_member add column seen_at timestamptz not null default now();
           update session set dba_note = E'a\tb\\', "A ""b""; --" = '{1,2}'"#,
    )
    .await
    .unwrap();
    let dir = place(&home, "backup");
    let made = home.run(&["backup", dir.to_str().unwrap()]);
    assert!(made.status.success(), "{made:#?}");
    for part in ["WARN", "dba_note", r#"A "b"; --"#, "seen_at", "twice", "not Muster's"] {
        assert!(made.stderr.replace('\\', "").contains(part), "no {part:?} in {made:#?}");
    }
    let restored = async |database: &Database| {
        Home::for_database(database).json(&["restore", dir.to_str().unwrap()]);
        assert_same(&before, &rows(&mut connection(database).await).await);
    };
    restored(&other).await;

    // The checksums of earlier releases covered these columns.
    let all = r#"select md5(bit_xor(('x' || md5(row("A ""b""; --", attributes, buin, created_at, dba_note,
                     member_count, owner, session_id, state, title, updated_at, version)::text)
                 )::bit(128))::text) from session"#;
    live.execute("set timezone = 'UTC'").await.unwrap();
    let checksum: String = sqlx::query_scalar(all).fetch_one(&mut live).await.unwrap();
    rewrite(&dir, |manifest| {
        assert_ne!(manifest["tables"]["session"]["checksum"], json!(checksum));
        manifest["tables"]["session"]["checksum"] = json!(checksum);
    });
    restored(&earlier).await;
}

/// A copy takes each column that any migration makes, and no other.
#[tokio::test(flavor = "multi_thread")]
async fn columns_of_every_migration_are_copied() {
    let database = owned_database().await;
    let migrations = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
    let migrations = i64::try_from(fs::read_dir(migrations).unwrap().count()).unwrap();
    let mut made = BTreeSet::new();
    for migration in 1..=migrations {
        store::migrate_to(&database.options, migration).await;
        let columns: Vec<(String, String)> = sqlx::query_as(
            "select table_name::text, column_name::text from information_schema.columns
             where table_schema = 'public' and table_name <> '_sqlx_migrations'",
        )
        .fetch_all(&mut connection(&database).await)
        .await
        .unwrap();
        made.extend(columns);
    }
    let known = COLUMNS.iter().flat_map(|(table, columns)| {
        columns.iter().map(|column| ((*table).to_owned(), (*column).to_owned()))
    });
    assert_eq!(made, known.collect(), "src/postgres/backup/columns.rs");
}

/// A schema that has the name of the role comes before `public`, where the tables are.
#[tokio::test(flavor = "multi_thread")]
async fn schema_of_the_tables_is_found() {
    let (one, restored, moved) = (database().await, database().await, database().await);
    let home = Home::for_database(&one);
    let mut live = connection(&one).await;
    populate(&home, &mut live).await;
    let before = rows(&mut live).await;
    for database in [&one, &restored, &moved] {
        store::create_schema_of_role(&mut connection(database).await).await;
    }
    let dir = backup(&home, "backup");
    Home::for_database(&restored).json(&["restore", dir.to_str().unwrap()]);
    let url = store::url(&moved.options);
    let output = home.run(&["move-to", &url, "--json"]);
    assert!(output.status.success(), "{output:#?}");
    assert_same(&before, &rows(&mut connection(&moved).await).await);
    for database in [&restored, &moved] {
        let apps = Home::for_database(database).json(&["app", "list"]);
        assert_eq!(apps.as_array().unwrap().len(), 1, "{apps}");
        let server = Home::for_database(database).serve();
        server.stop();
        let schemas = store::schemas_with_tables(&mut connection(database).await).await;
        assert_eq!(schemas.len(), 1, "{schemas:?}");
    }

    // Later migrations go to the tables.
    let earlier = owned_database().await;
    store::migrate_to(&earlier.options, 11).await;
    let mut live = connection(&earlier).await;
    store::create_schema_of_role(&mut live).await;
    let done = Home::for_database(&earlier).json(&["migrate"]);
    assert_eq!(store::schemas_with_tables(&mut live).await, ["public"], "{done}");
}
