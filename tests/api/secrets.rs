//! Secrets at rest: a copy of the database reveals no secret, and the master key can be replaced
//! while servers run.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::harness::process::{Home, Server};
use crate::harness::server::{Database, database};
use crate::harness::{MASTER_KEY, keyring, new_app, spawn_app};

const OTHER_KEY: &str = "07070707070707070707070707070707070707070707070707070707070707ff";
const TOKEN: &str = "hush-hush-token-of-callbacks";

async fn connection(database: &Database) -> PgConnection {
    PgConnection::connect_with(&database.options).await.unwrap()
}

/// The whole content of a database as text: every column of every table, bytes in hexadecimal.
async fn dump(connection: &mut PgConnection) -> String {
    let tables: Vec<String> = sqlx::query_scalar(
        "select oid::regclass::text from pg_class
         where relkind = 'r' and relnamespace = 'public'::regnamespace",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    assert!(tables.len() > 8, "{tables:?}");
    let mut text = String::new();
    for table in tables {
        let rows = AssertSqlSafe(format!("select \"row\"::text from {table} as \"row\""));
        let rows: Vec<String> = sqlx::query_scalar(rows).fetch_all(&mut *connection).await.unwrap();
        text.extend(rows);
    }
    text
}

/// The forms in which a dump could contain a secret.
fn forms(secret: &[u8]) -> Vec<String> {
    let hexadecimal: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![hexadecimal, STANDARD.encode(secret).trim_end_matches('=').to_owned()];
    forms.extend(String::from_utf8(secret.to_vec()));
    forms
}

#[track_caller]
fn not_in(text: &str, secrets: &[&[u8]]) {
    for form in secrets.iter().flat_map(|secret| forms(secret)) {
        assert!(!text.contains(&form), "{form} is in {text}");
    }
}

fn aes_key(app: &Value) -> Vec<u8> {
    STANDARD.decode(app["aesKey"].as_str().unwrap()).unwrap()
}

fn create_app(home: &Home) -> Value {
    let callback = ["--callback-url", "http://127.0.0.1:1/", "--callback-token", TOKEN];
    home.json(&[&["app", "create", "--buin", "7", "--app-id", "mine"][..], &callback].concat())
}

fn show_app(home: &Home) -> Value {
    home.json(&["app", "show", "--show-secrets", "--buin", "7", "--app-id", "mine"])
}

#[tokio::test(flavor = "multi_thread")]
async fn database_dump_reveals_no_secret() {
    let database = database().await;
    let home = Home::for_database(&database);
    let app = create_app(&home);
    let key = home.json(&["key", "create", "--buin", "7", "--app-id", "mine"]);
    let server = home.serve();
    // Callbacks fail, so the dump has the records of their attempts too.
    let caller = server.plain_client(key["key"].as_str().unwrap());
    caller.create().await;
    let (token, id) = (server.client(&app).token().await, "00000000-0000-7000-8000-000000000000");
    assert_eq!(server.client(&app).get_session(&token, id).await["errcode"], 400_003);
    let mut connection = connection(&database).await;
    let tried = "select count(*) from delivery_attempt";
    while sqlx::query_scalar::<_, i64>(tried).fetch_one(&mut connection).await.unwrap() == 0 {}
    let rotated = home.json(&["app", "rotate-key", "--buin", "7", "--app-id", "mine"]);
    server.stop();

    let dump = dump(&mut connection).await;
    assert!(dump.contains("mine") && dump.contains("app.rotate_key"), "{dump}");
    let master: Vec<u8> = keyring().first().unwrap().bytes().to_vec();
    let key = key["key"].as_str().unwrap();
    let secrets = [&aes_key(&app)[..], &aes_key(&rotated), TOKEN.as_bytes(), key.as_bytes()];
    not_in(&dump, &secrets);
    not_in(&dump, &[&master, token.as_bytes()]);
    let shown = show_app(&home);
    assert_eq!(
        (&shown["aesKey"], shown["callbackToken"].as_str()),
        (&rotated["aesKey"], Some(TOKEN))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_master_key_is_refused_at_the_start() {
    let database = database().await;
    let mut home = Home::for_database(&database);
    let app = create_app(&home);
    let right = home.json(&["secrets", "status"])["active"].as_str().unwrap().to_owned();
    home.set("MUSTER__SECRETS__MASTER_KEY", OTHER_KEY);
    for command in [&["serve"][..], &["app", "list"], &["migrate"], &["secrets", "rotate"]] {
        let parts =
            ["master key of this database is not available", &right, "restore", "and only "];
        let output = home.run(command);
        output.fails(1, &parts);
        assert!(!output.stderr.contains("070707"), "{output:#?}");
    }
    home.set("MUSTER__DATABASE__MIGRATE", "false");
    home.run(&["serve"]).fails(1, &["master key of this database is not available", &right]);
    let doctor = home.run(&["doctor"]);
    assert_eq!(doctor.status.code(), Some(1), "{doctor:#?}");
    assert!(doctor.stdout.contains("FAIL  secrets"), "{doctor:#?}");
    assert!(doctor.stdout.contains(&right), "{doctor:#?}");
    home.set("MUSTER__SECRETS__MASTER_KEY", MASTER_KEY);
    assert_eq!(show_app(&home), app);
}

#[tokio::test(flavor = "multi_thread")]
async fn external_database_requires_a_master_key() {
    let database = database().await;
    let mut home = Home::for_database(&database);
    let mut connection = connection(&database).await;
    connection.execute("drop schema public cascade; create schema public").await.unwrap();
    home.set("MUSTER__SECRETS__MASTER_KEY", "");
    for command in [&["serve"][..], &["migrate"], &["app", "create", "--buin", "1"]] {
        home.run(command).fails(
            1,
            &["there is no master key", "secrets generate", "MUSTER__SECRETS__MASTER_KEY"],
        );
    }
    let tables = "select count(*) from pg_class where relnamespace = 'public'::regnamespace";
    let count: i64 = sqlx::query_scalar(tables).fetch_one(&mut connection).await.unwrap();
    assert_eq!(count, 0, "no table is created");

    let generated = home.run(&["secrets", "generate"]).ok().stdout;
    assert_ne!(home.run(&["secrets", "generate"]).ok().stdout, generated);
    let file = home.parent.join("keys");
    home.set("MUSTER__SECRETS__MASTER_KEY_FILE", file.to_str().unwrap());
    home.run(&["migrate"]).fails(2, &["cannot read the master key file", "/keys"]);
    fs::write(&file, "Sesame\n").unwrap();
    home.run(&["migrate"]).fails(2, &["/keys, line 1: expected 32 bytes"]);
    fs::write(&file, generated).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    home.run(&["migrate"]).ok();
    let app = create_app(&home);
    assert_eq!(show_app(&home), app);
    let doctor = home.run(&["doctor"]).ok().stdout;
    assert!(doctor.contains("warn  secrets") && doctor.contains("chmod 600"), "{doctor}");
}

#[test]
fn embedded_database_generates_its_master_key_once() {
    let home = Home::with_database();
    let path = home.data_dir.join("master.key");
    let key = fs::read_to_string(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    home.serve().stop();
    assert_eq!(fs::read_to_string(&path).unwrap(), key);

    // No new key is generated if secrets are sealed with a missing one.
    fs::remove_file(&path).unwrap();
    home.run(&["serve"])
        .fails(1, &["master key of this database", "and no master key is available"]);
    assert!(!path.exists());
    fs::write(&path, format!("{OTHER_KEY}\n")).unwrap();
    home.run(&["serve"]).fails(1, &["master key of this database is not available", "and only "]);
    fs::write(&path, key).unwrap();
    home.serve().stop();
}

#[test]
fn master_key_does_not_reach_postgresql() {
    let mut home = Home::new();
    home.set("MUSTER__SECRETS__MASTER_KEY", OTHER_KEY);
    let server = home.serve();
    assert!(
        !home.data_dir.join("master.key").exists(),
        "no key file is generated beside a configured key"
    );
    let pid = home.postmaster().unwrap().as_raw_nonzero();
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment);
    assert!(environment.contains("LC_ALL") && !environment.contains("MUSTER"), "{environment}");
    let mine =
        fs::read(format!("/proc/{}/environ", server.running.pid().as_raw_nonzero())).unwrap();
    assert!(
        String::from_utf8_lossy(&mine).contains(OTHER_KEY),
        "the environment of Muster has the key"
    );
    server.stop();
}

/// Changes a database back to the previous release, with plain secrets.
async fn unsealed(connection: &mut PgConnection, key: &[u8; 32]) {
    connection
        .execute(
            "drop table sealing, audit;
             drop function refuse_audit_change();
             delete from api_key;
             delete from app;
             alter table app alter column callback_token type text using '';
             delete from _sqlx_migrations where version = 5",
        )
        .await
        .unwrap();
    sqlx::query(
        "insert into app (buin, app_id, name, aes_key, permissions, callback_url,
             callback_token, created_at)
         select 7, app_id, 'old', $1, '{sessions:read}', url, token, now()
         from (values ('mine', 'http://a', $2), ('silent', null, null)) as old (app_id, url, token)",
    )
    .bind(&key[..])
    .bind(TOKEN)
    .execute(&mut *connection)
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn first_start_seals_plain_secrets_of_an_earlier_release() {
    let database = database().await;
    let home = Home::for_database(&database);
    let mut connection = connection(&database).await;
    let key: [u8; 32] = rand::random();
    unsealed(&mut connection, &key).await;
    // The planner gets samples of the secrets.
    connection
        .execute("alter table app alter column aes_key set statistics 100; analyze app")
        .await
        .unwrap();

    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| home.run(&["app", "list"]).ok());
        }
    });
    let app = show_app(&home);
    assert_eq!(aes_key(&app), key);
    assert_eq!(app["callbackToken"], TOKEN);
    not_in(&dump(&mut connection).await, &[&key, TOKEN.as_bytes()]);
    let samples = "select count(*) from pg_stats where tablename = 'app'
                   and attname in ('aes_key', 'callback_token')";
    let samples: i64 = sqlx::query_scalar(samples).fetch_one(&mut connection).await.unwrap();
    assert_eq!(samples, 0);
    let lines = home.json(&["audit", "list", "--action", "secrets.seal"]);
    assert_eq!(lines.as_array().unwrap().len(), 1, "one process seals: {lines}");
    assert_eq!(lines[0]["details"]["apps"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn sealing_removes_plain_secrets_from_the_table_file() {
    let home = Home::with_database();
    // PostgreSQL keeps running alone.
    home.serve().kill();
    let mut connection = home.connect().await;
    let key: [u8; 32] = rand::random();
    unsealed(&mut connection, &key).await;
    let files = |home: &Home| {
        let mut found = 0;
        let mut directories = vec![home.postgres().join("base")];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else if let Ok(bytes) = fs::read(&path) {
                    found += usize::from(bytes.windows(32).any(|part| part == key));
                }
            }
        }
        found
    };
    // The role of the service may not write a checkpoint.
    home.connect_as("postgres").await.execute("checkpoint").await.unwrap();
    assert!(files(&home) > 0, "the table files have the secret before");
    drop(connection);
    // The server stops PostgreSQL, which then writes all pages.
    home.run(&["migrate"]).ok();
    assert_eq!(files(&home), 0);
    assert_eq!(aes_key(&show_app(&home)), key);
}

#[tokio::test(flavor = "multi_thread")]
async fn secret_moved_to_another_row_does_not_open() {
    let app = spawn_app().await;
    app.add(&new_app(5, &[])).await;
    sqlx::query(
        "update app set aes_key = (select aes_key from app where buin = 5) where buin <> 5",
    )
    .execute(&app.pool)
    .await
    .unwrap();
    let home = Home::for_database(&app.database);
    home.run(&["app", "list"])
        .fails(1, &["app.aes_key holds", "was altered, or belongs elsewhere"]);
    let doctor = home.run(&["doctor"]);
    assert!(doctor.stdout.contains("FAIL  secrets"), "{doctor:#?}");
}

/// A home with a file of master keys.
fn with_file(database: &Database, keys: &[&str]) -> (Home, PathBuf) {
    let mut home = Home::for_database(database);
    let file = home.parent.join("keys");
    fs::write(&file, keys.join("\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    home.set("MUSTER__SECRETS__MASTER_KEY", "");
    home.set("MUSTER__SECRETS__MASTER_KEY_FILE", file.to_str().unwrap());
    (home, file)
}

fn keys_in(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

/// The server opens sealed messages of an app and accepts its API key.
async fn works(server: &Server, app: &Value) {
    let client = server.client(app);
    let (token, id) = (client.token().await, "00000000-0000-7000-8000-000000000000");
    assert_eq!(client.get_session(&token, id).await["errcode"], 400_003);
}

#[tokio::test(flavor = "multi_thread")]
async fn master_key_is_replaced_while_servers_run() {
    let database = database().await;
    let (home, file) = with_file(&database, &[MASTER_KEY]);
    let app = create_app(&home);
    let servers = [home.serve(), home.serve()];
    let old = home.json(&["secrets", "status"])["active"].clone();
    let ended = Arc::new(AtomicBool::new(false));
    let calling = tokio::spawn({
        let (ended, app) = (ended.clone(), app.clone());
        let clients = servers.each_ref().map(|server| server.client(&app));
        async move {
            let mut calls = 0;
            while !ended.load(Ordering::Relaxed) {
                for client in &clients {
                    assert_eq!(client.gettoken().await["errcode"], 0, "after {calls} calls");
                    calls += 1;
                }
            }
            calls
        }
    });
    let mut connection = connection(&database).await;
    let before = dump(&mut connection).await;
    let done = home.json(&["secrets", "rotate"]);
    assert_eq!((&done["from"], &done["apps"]), (&old, &json!(1)));
    assert_ne!(done["to"], old);
    // New secrets are sealed with the new key, and both servers open them.
    let other = home.json(&["app", "create", "--buin", "8"]);
    for server in &servers {
        works(server, &app).await;
        works(server, &other).await;
    }
    ended.store(true, Ordering::Relaxed);
    assert!(calling.await.unwrap() > 0);
    let rotated = home.json(&["app", "rotate-key", "--buin", "7", "--app-id", "mine"]);
    for server in &servers {
        works(server, &rotated).await;
    }

    let keys = keys_in(&file);
    assert_eq!((keys.len(), keys[1].len()), (2, 44));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o640);
    let status = home.json(&["secrets", "status"]);
    assert_eq!((&status["active"], &status["available"]), (&done["to"], &json!([done["to"], old])));
    let after = dump(&mut connection).await;
    let old_id = old.as_str().unwrap();
    assert!(before.contains(&format!("01{old_id}")) && !after.contains(&format!("01{old_id}")));

    // No change without its audit entry.
    let refuse = "alter table audit add constraint no_more check (action <> 'secrets.drop_keys')";
    connection.execute(refuse).await.unwrap();
    home.run(&["secrets", "rotate", "--finish"]).fails(1, &["no_more"]);
    assert_eq!(keys_in(&file), keys);
    connection.execute("alter table audit drop constraint no_more").await.unwrap();
    let finished = home.json(&["secrets", "rotate", "--finish"]);
    assert_eq!(finished, json!({ "active": done["to"], "removed": [old] }));
    assert_eq!(keys_in(&file), keys[..1]);
    assert_eq!(home.run(&["secrets", "rotate", "--finish"]).ok().stdout, "nothing to do\n");
    let lines = home.json(&["audit", "list", "--action", "secrets.drop_keys"]);
    let [line] = &lines.as_array().unwrap()[..] else { panic!("{lines}") };
    assert_eq!(line["details"], finished);
    let [one, two] = servers;
    one.stop();
    let again = home.serve();
    works(&again, &rotated).await;
    works(&two, &rotated).await;
    let (late, _) = with_file(&database, &[MASTER_KEY]);
    late.run(&["serve"]).fails(1, &["master key of this database is not available", old_id]);
    let lines = home.json(&["audit", "list", "--action", "secrets.rotate"]);
    let [line] = &lines.as_array().unwrap()[..] else { panic!("{lines}") };
    assert_eq!(line["details"], done);
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_waits_until_every_server_has_the_key() {
    let database = database().await;
    let (home, file) = with_file(&database, &[MASTER_KEY]);
    let app = create_app(&home);
    let (elsewhere, far_file) = with_file(&database, &[MASTER_KEY]);
    let servers = [home.serve(), elsewhere.serve()];
    let before = home.json(&["secrets", "status"])["active"].clone();
    let output = home.run(&["secrets", "rotate"]);
    output.fails(
        1,
        &["1 running servers have not confirmed", "run this command again", "still active"],
    );
    assert_eq!(home.json(&["secrets", "status"])["active"], before);
    let keys = keys_in(&file);
    assert_eq!(keys.len(), 2, "the new key exists and is not active");
    for server in &servers {
        works(server, &app).await;
    }
    // A new server starts while the rotation waits.
    home.serve().stop();

    fs::copy(&file, &far_file).unwrap();
    let done = home.json(&["secrets", "rotate"]);
    assert_eq!(keys_in(&file), keys, "the key of the first attempt is used");
    assert_eq!(done["from"], before);
    for server in servers {
        works(&server, &app).await;
        server.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn master_key_of_the_environment_is_replaced_in_four_steps() {
    let database = database().await;
    let mut home = Home::for_database(&database);
    let app = create_app(&home);
    let server = home.serve();
    home.run(&["secrets", "rotate"])
        .fails(1, &["secrets generate", "MUSTER__SECRETS__PREVIOUS_MASTER_KEY"]);
    home.run(&["secrets", "rotate", "--finish"]).fails(1, &["PREVIOUS_MASTER_KEY"]);
    // 1 and 2: a new key beside the old one, on all servers in turn.
    home.set("MUSTER__SECRETS__MASTER_KEY", OTHER_KEY);
    home.set("MUSTER__SECRETS__PREVIOUS_MASTER_KEY", MASTER_KEY);
    let second = home.serve();
    home.run(&["secrets", "rotate"]).fails(1, &["1 running servers have not confirmed"]);
    works(&server, &app).await;
    server.stop();
    // 3: all servers have the new key.
    home.json(&["secrets", "rotate"]);
    works(&second, &app).await;
    // 4: the old key is removed.
    home.set("MUSTER__SECRETS__PREVIOUS_MASTER_KEY", "");
    second.stop();
    let third = home.serve();
    works(&third, &app).await;
    third.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_rotation_is_harmless() {
    let database = database().await;
    let (home, file) = with_file(&database, &[MASTER_KEY]);
    let app = create_app(&home);
    let server = home.serve();
    // The rotation waits for this server and is killed while it waits.
    server.running.signal(Signal::STOP);
    let rotating = crate::harness::process::Running::start(&home, &["secrets", "rotate"]);
    crate::harness::process::wait_for("the new key", || (keys_in(&file).len() == 2).then_some(()));
    home.run(&["secrets", "rotate"]).fails(1, &["another", "running"]);
    rotating.signal(Signal::KILL);
    drop(rotating);
    server.running.signal(Signal::CONT);
    let keys = keys_in(&file);
    works(&server, &app).await;
    let done = crate::harness::process::wait_for("its turn to end", || {
        let output = home.run(&["secrets", "rotate"]);
        output.status.success().then_some(output)
    });
    assert!(done.stdout.contains("the secrets of 1 apps were sealed"), "{done:#?}");
    assert_eq!(keys_in(&file), keys, "no third key is generated");
    works(&server, &app).await;
    server.stop();
}
