//! A backup is data from outside: only a holder of the master key can change it unnoticed, and no
//! statement in it is executed.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use muster::config::KeyText;
use muster::postgres::backup::Tools;
use muster::postgres::embedded::{Options, StartupTimeouts};
use muster::wire::{BackupKey, MasterKey};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::geteuid;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection};

use crate::harness::MASTER_KEY;
use crate::harness::process::Home;
use crate::harness::rows::{assert_same, rows};
use crate::harness::server::{Database, database, owned_database};
use crate::harness::store::PgConnectOptions;

const ACCEPT: &str = "--accept-unauthenticated";

/// Signs a manifest with the master key of the tests, as the program does.
pub fn sign(manifest: &mut Value) {
    manifest.as_object_mut().unwrap().remove("hmac");
    let Ok(typed) = serde_json::from_value::<muster::postgres::backup::Manifest>(manifest.clone())
    else {
        return;
    };
    let key = MasterKey::new(*KeyText::parse(MASTER_KEY).unwrap().bytes());
    let signature = BackupKey::derive(&key).sign(&serde_json::to_vec(&typed).unwrap());
    manifest["hmac"] = json!(signature);
}

async fn connection(options: &PgConnectOptions) -> PgConnection {
    PgConnection::connect_with(options).await.unwrap()
}

fn manifest(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("backup.json")).unwrap()).unwrap()
}

fn write_manifest(dir: &Path, manifest: &Value) {
    fs::write(dir.join("backup.json"), manifest.to_string()).unwrap();
}

/// A backup of a database with one app.
fn backup_of(home: &Home) -> PathBuf {
    home.json(&["app", "create", "--buin", "7", "--app-id", "mine"]);
    let dir = home.parent.join("backup");
    home.json(&["backup", dir.to_str().unwrap()]);
    dir
}

/// Replaces the dump, with a manifest that describes the new one. The signature is removed, because
/// an attacker cannot make one.
fn replace_dump(dir: &Path, dump: &[u8], format: u32) {
    fs::write(dir.join("dump"), dump).unwrap();
    let mut manifest = manifest(dir);
    let sha256: String = Sha256::digest(dump).iter().map(|byte| format!("{byte:02x}")).collect();
    manifest["dump"] = json!({ "bytes": dump.len(), "sha256": sha256 });
    manifest["format"] = json!(format);
    manifest.as_object_mut().unwrap().remove("hmac");
    write_manifest(dir, &manifest);
}

/// The programs of the version that made a backup.
pub fn tools_of(backup: &Path) -> Tools {
    let options = Options {
        data_dir: PathBuf::new(),
        postgres_dir: None,
        download: false,
        max_connections: 1,
        timeouts: StartupTimeouts::COMMAND,
    };
    let major = u32::try_from(manifest(backup)["pgDump"].as_u64().unwrap()).unwrap();
    Tools::find(&options, major, "a test").unwrap()
}

/// A complete dump by the `pg_dump` that also made a backup, as backups of format 1 had it.
fn complete_dump(database: &Database, backup: &Path) -> Vec<u8> {
    let to = &database.options;
    let url = to.to_url_lossy();
    let socket = to.get_socket().map(|socket| socket.display().to_string());
    let output = Command::new(tools_of(backup).program("pg_dump"))
        .args(["--format=custom", "--no-owner", "--no-privileges", "--no-comments"])
        .env("PGHOST", socket.unwrap_or_else(|| to.get_host().to_owned()))
        .env("PGPORT", to.get_port().to_string())
        .env("PGUSER", to.get_username())
        .env("PGPASSWORD", url.password().unwrap_or_default())
        .env("PGDATABASE", &database.name)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// A file on the machine of PostgreSQL that planted code creates.
struct Marker {
    path: String,
}

impl Marker {
    fn new() -> Self {
        Self { path: format!("/tmp/muster-marker-{:016x}", rand::random::<u64>()) }
    }

    /// A statement that creates the file.
    fn statement(&self) -> String {
        format!("copy (select 1) to program 'cat >{}'", self.path)
    }

    /// Whether the file exists. The file is removed.
    async fn take(&self, connection: &mut PgConnection) -> bool {
        let found: bool = sqlx::query_scalar("select (pg_stat_file($1, true)).size is not null")
            .bind(&self.path)
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        let remove = format!("copy (select 1) to program 'cat >/dev/null; rm -f {}'", self.path);
        connection.execute(AssertSqlSafe(remove)).await.unwrap();
        found
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_holder_of_the_master_key_can_change_a_backup() {
    let (one, other) = (database().await, database().await);
    let (home, fresh) = (Home::for_database(&one), Home::for_database(&other));
    let dir = backup_of(&home);
    let genuine = manifest(&dir);
    assert_eq!(genuine["hmac"].as_str().unwrap().len(), 64);
    let restore =
        |options: &[&str]| fresh.run(&[&["restore", dir.to_str().unwrap()], options].concat());
    for (field, value) in [
        ("at", json!("2020-01-01T00:00:00Z")),
        ("muster", json!("9.9.9")),
        ("postgres", json!(14)),
        ("pgDump", json!(14)),
        ("migrations", json!([1])),
        ("masterKeyIncluded", json!(true)),
        ("tables", json!({})),
        ("dump", json!({ "bytes": 1, "sha256": "00" })),
        ("hmac", json!("")),
        ("hmac", json!("0".repeat(64))),
    ] {
        let mut changed = genuine.clone();
        changed[field] = value;
        write_manifest(&dir, &changed);
        for options in [&[][..], &[ACCEPT]] {
            restore(options).fails(1, &["backup.json was changed", "Nothing was restored"]);
        }
    }
    let mut changed = genuine.clone();
    changed["masterKey"] = json!("0123456789abcdef");
    write_manifest(&dir, &changed);
    restore(&[]).fails(1, &["0123456789abcdef", "nothing was restored"]);

    // A backup without a signature is accepted only if the operator takes the risk.
    for (format, key) in
        [(1, genuine["masterKey"].clone()), (2, genuine["masterKey"].clone()), (2, json!(null))]
    {
        let mut unsigned = genuine.clone();
        unsigned.as_object_mut().unwrap().remove("hmac");
        (unsigned["format"], unsigned["masterKey"]) = (json!(format), key);
        write_manifest(&dir, &unsigned);
        restore(&[]).fails(1, &["has no signature", "Nothing was restored", ACCEPT]);
    }
    let mut target = connection(&other.options).await;
    let apps = "select count(*) from app";
    assert_eq!(sqlx::query_scalar::<_, i64>(apps).fetch_one(&mut target).await.unwrap(), 0);

    write_manifest(&dir, &genuine);
    restore(&[]).ok();
    let lines = fresh.json(&["audit", "list", "--action", "database.restore"]);
    assert_eq!(lines[0]["details"]["authenticated"], true, "{lines}");
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_without_the_master_key_is_not_signed() {
    let (one, other) = (database().await, database().await);
    let (mut home, fresh) = (Home::for_database(&one), Home::for_database(&other));
    home.json(&["app", "create", "--buin", "7", "--app-id", "mine"]);
    home.set("MUSTER__SECRETS__MASTER_KEY", &"07".repeat(32));
    let dir = home.parent.join("unsigned");
    let printed = home.run(&["backup", dir.to_str().unwrap()]).ok().stdout;
    assert!(printed.contains("WARNING") && printed.contains("not signed"), "{printed}");
    assert_eq!(manifest(&dir).get("hmac"), None);
    fresh.run(&["restore", dir.to_str().unwrap()]).fails(1, &["has no signature", ACCEPT]);
    fresh.json(&["restore", ACCEPT, dir.to_str().unwrap()]);
    let lines = fresh.json(&["audit", "list", "--action", "database.restore"]);
    assert_eq!(lines[0]["details"]["authenticated"], false, "{lines}");
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_objects_are_refused_and_not_executed() {
    let (one, other) = (database().await, database().await);
    let (home, fresh) = (Home::for_database(&one), Home::for_database(&other));
    let dir = backup_of(&home);
    let genuine = manifest(&dir);
    let mut source = connection(&one.options).await;
    let marker = Marker::new();
    let function = |name: &str, returns: &str, result: &str| {
        format!(
            "create or replace function {name}() returns {returns} language plpgsql as $$
             begin {}; return {result}; end $$",
            marker.statement()
        )
    };
    source.execute(AssertSqlSafe(function("planted", "int", "1"))).await.unwrap();
    source.execute("select planted()").await.unwrap();
    assert!(marker.take(&mut source).await, "the planted code would run");

    for (create, drop, named) in [
        (
            "create materialized view evil as select planted() as one",
            "drop materialized view evil",
            "MATERIALIZED VIEW public evil",
        ),
        ("create view evil as select planted()", "drop view evil", "VIEW public evil"),
        (
            "create rule evil as on insert to app do also select planted()",
            "drop rule evil on app",
            "RULE public app evil",
        ),
        (
            "create policy evil on app using (planted() = 1)",
            "drop policy evil on app",
            "POLICY public app evil",
        ),
        ("select 1", "drop function planted()", "FUNCTION public planted()"),
    ] {
        source.execute(create).await.unwrap();
        let dump = complete_dump(&one, &dir);
        assert!(marker.take(&mut source).await || !create.contains("materialized"));
        source.execute(drop).await.unwrap();
        write_manifest(&dir, &genuine);
        for format in [1, 2] {
            replace_dump(&dir, &dump, format);
            let named = if format == 1 { named } else { "FUNCTION public notify_apps_changed()" };
            fresh.run(&["restore", dir.to_str().unwrap()]).fails(1, &["has no signature"]);
            let refused = fresh.run(&["restore", ACCEPT, dir.to_str().unwrap()]);
            refused.fails(1, &["no backup of Muster has", named, "Nothing was restored"]);
        }
        assert!(!marker.take(&mut source).await, "{create}");
    }
}

/// Functions, triggers and defaults that have the names of Muster's own.
#[tokio::test(flavor = "multi_thread")]
async fn altered_definitions_are_not_restored() {
    let (one, other) = (database().await, database().await);
    let (home, fresh) = (Home::for_database(&one), Home::for_database(&other));
    let dir = backup_of(&home);
    let (mut source, mut target) =
        (connection(&one.options).await, connection(&other.options).await);
    let marker = Marker::new();
    let before = definitions(&mut target).await;
    let alter = format!(
        "create or replace function notify_apps_changed() returns trigger language plpgsql as $$
         begin {}; return null; end $$;
         alter table app alter column name set default 'planted';
         alter table app add constraint evil check (name <> 'x');
         create index evil on app (name);",
        marker.statement()
    );
    source.execute(AssertSqlSafe(alter)).await.unwrap();
    source.execute("update app set name = name").await.unwrap();
    assert!(marker.take(&mut source).await, "the planted code would run");
    let expected = rows(&mut source).await;

    // A new backup has no definitions. One of format 1 has them, and they are left alone.
    let second = home.parent.join("second");
    home.json(&["backup", second.to_str().unwrap()]);
    fresh.json(&["restore", second.to_str().unwrap()]);
    assert_same(&expected, &rows(&mut target).await);
    assert_eq!(definitions(&mut target).await, before);

    let third = database().await;
    let mut manifest = manifest(&second);
    manifest["tables"]["audit"] = json!({ "rows": 0, "checksum": "" });
    write_manifest(&dir, &manifest);
    replace_dump(&dir, &complete_dump(&one, &dir), 1);
    let refused = Home::for_database(&third).run(&["restore", ACCEPT, dir.to_str().unwrap()]);
    refused.fails(1, &["audit has"]);
    manifest["tables"].as_object_mut().unwrap().remove("audit");
    write_manifest(&dir, &manifest);
    replace_dump(&dir, &complete_dump(&one, &dir), 1);
    Home::for_database(&third).json(&["restore", ACCEPT, dir.to_str().unwrap()]);
    let mut target = connection(&third.options).await;
    assert_same(&expected, &rows(&mut target).await);
    assert_eq!(definitions(&mut target).await, before);
    assert!(!marker.take(&mut source).await);
}

/// Functions, triggers, defaults, constraints and indexes.
async fn definitions(connection: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar(
        "select pg_get_functiondef(oid) as definition from pg_proc
         where pronamespace = 'public'::regnamespace
         union all
         select pg_get_triggerdef(oid) from pg_trigger where not tgisinternal
         union all
         select adrelid::regclass || pg_get_expr(adbin, adrelid) from pg_attrdef
         union all
         select conname || pg_get_constraintdef(oid) from pg_constraint
         where connamespace = 'public'::regnamespace
         union all
         select indexdef from pg_indexes where schemaname = 'public'
         order by definition",
    )
    .fetch_all(connection)
    .await
    .unwrap()
}

/// Statements in a dump that its list of entries does not show.
#[tokio::test(flavor = "multi_thread")]
async fn altered_statements_of_a_dump_are_not_executed() {
    let (one, other) = (database().await, database().await);
    let (home, fresh) = (Home::for_database(&one), Home::for_database(&other));
    let dir = backup_of(&home);
    let dump = fs::read(dir.join("dump")).unwrap();
    let mut target = connection(&other.options).await;
    let marker = Marker { path: format!("/tmp/m{:04x}", rand::random::<u16>()) };
    for original in [
        "SELECT pg_catalog.set_config('search_path', '', false);\n",
        "COPY public.app (buin, app_id, name, aes_key, permissions",
    ] {
        let at = dump.windows(original.len()).position(|part| part == original.as_bytes()).unwrap();
        let planted = format!("copy (select 1) to program 'cat>{}';--", marker.path);
        assert!(planted.len() < original.len(), "{planted}");
        let mut altered = dump.clone();
        let planted = format!("{planted:<width$}\n", width = original.len() - 1);
        altered[at..at + original.len()].copy_from_slice(planted.as_bytes());
        replace_dump(&dir, &altered, 2);
        let refused = fresh.run(&["restore", ACCEPT, dir.to_str().unwrap()]);
        refused.fails(1, &["unexpected statement", "to program", "nothing was restored"]);
        assert!(!marker.take(&mut target).await, "{original}");
    }
    let apps = "select count(*) from app";
    assert_eq!(sqlx::query_scalar::<_, i64>(apps).fetch_one(&mut target).await.unwrap(), 0);
    // The refused dumps have left a database that can be used.
    replace_dump(&dir, &dump, 2);
    fresh.json(&["restore", ACCEPT, dir.to_str().unwrap()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_other_owners_do_not_disturb_a_backup() {
    let (source, target, moved) =
        (owned_database().await, owned_database().await, owned_database().await);
    let (home, fresh) = (Home::for_database(&source), Home::for_database(&target));
    home.json(&["app", "create", "--buin", "7", "--app-id", "mine"]);
    // The tests' own user is a superuser.
    let mut superuser = connection(&database().await.options.clone().database(&source.name)).await;
    superuser
        .execute(
            "create table dba_notes (id serial, note text);
             insert into dba_notes (note) values ('private');
             create view dba_view as select * from dba_notes;
             create schema dba; create table dba.session (id int);
             do $$ begin
                 -- A PostgreSQL without the additional modules does not have it.
                 if exists (select from pg_available_extensions
                            where name = 'pg_stat_statements') then
                     create extension pg_stat_statements;
                 end if;
             end $$",
        )
        .await
        .unwrap();
    let dir = home.parent.join("backup");
    home.json(&["backup", dir.to_str().unwrap()]);
    let tables = manifest(&dir)["tables"].clone();
    assert!(tables.get("app").is_some() && tables.get("dba_notes").is_none(), "{tables}");
    fresh.json(&["restore", dir.to_str().unwrap()]);
    assert_eq!(fresh.json(&["app", "list"]), home.json(&["app", "list"]));
    // The command reports its progress.
    let output = home.run(&["move-to", moved.options.to_url_lossy().as_str()]);
    assert!(output.status.success(), "{output:?}");
    let moved = Home::for_database(&moved);
    assert_eq!(moved.json(&["app", "list"]), home.json(&["app", "list"]));
}

/// A restore does not wait for the end of a file that has none.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_not_regular_are_refused_at_once() {
    let database = database().await;
    let home = Home::for_database(&database);
    home.json(&["app", "create", "--buin", "7"]);
    let dir = home.parent.join("backup");
    home.run(&["backup", "--with-key", dir.to_str().unwrap()]).ok();
    // The key in the backup is read if there is no other one.
    let fresh = Home::new();
    let restore = |parts: &[&str]| {
        fresh.run(&["restore", ACCEPT, dir.to_str().unwrap()]).fails(1, parts);
        assert!(!fresh.data_dir.exists());
    };
    for name in ["dump", "backup.json", "master.key"] {
        let (path, genuine) = (dir.join(name), home.parent.join("genuine"));
        fs::rename(&path, &genuine).unwrap();
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        restore(&[name, "it is not a regular file"]);
        fs::remove_file(&path).unwrap();
        symlink("/dev/zero", &path).unwrap();
        restore(&[name, "it is a symbolic link, not a regular file"]);
        fs::remove_file(&path).unwrap();
        fs::rename(&genuine, &path).unwrap();
    }
    // Only its length is looked at.
    let dump = fs::OpenOptions::new().write(true).open(dir.join("dump")).unwrap();
    dump.set_len(1 << 40).unwrap();
    restore(&["dump was changed or is damaged", "1099511627776 bytes instead of"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn unsafe_directories_are_refused() {
    let one = database().await;
    let home = Home::for_database(&one);
    let refuse = |name: &str, mode: u32, owner: Option<u32>, parts: &[&str]| {
        let dir = home.parent.join(name);
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
        chown(&dir, owner, None).unwrap();
        home.run(&["backup", dir.to_str().unwrap()]).fails(1, parts);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "nothing was written");
    };
    refuse("all", 0o777, None, &["other users may write to", "0777", "chmod 700"]);
    refuse("group", 0o720, None, &["other users may write to", "0720"]);
    refuse("sticky", 0o1777, None, &["other users may write to", "1777"]);
    if geteuid().is_root() {
        refuse("foreign", 0o700, Some(12_345), &["belongs to another user", "12345"]);
    }
    for (name, mode) in [("own", 0o700), ("readable", 0o755)] {
        let dir = home.parent.join(name);
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
        home.json(&["backup", dir.to_str().unwrap()]);
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    }
}

/// Another user who may write to a directory on the path could replace the next one.
#[tokio::test(flavor = "multi_thread")]
async fn replaceable_directories_are_refused() {
    let database = database().await;
    let home = Home::for_database(&database);
    let parent = |name: &str, mode, owner, group| {
        let dir = home.parent.join(name);
        fs::create_dir(&dir).unwrap();
        chown(&dir, owner, group).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
        dir
    };
    // In a new directory, below a missing one, and in an existing one of the right mode.
    let backups = |above: &Path| {
        let existing = above.join("existing");
        fs::create_dir(&existing).unwrap();
        fs::set_permissions(&existing, fs::Permissions::from_mode(0o700)).unwrap();
        [above.join("new"), above.join("missing/new"), existing.clone(), existing.join("new")]
    };
    let refuse = |above: &Path, parts: &[&str]| {
        for dir in backups(above) {
            home.run(&["backup", dir.to_str().unwrap()]).fails(1, parts);
            assert!(!dir.join("dump").exists(), "nothing was written");
        }
        assert!(!above.join("missing").exists() && !above.join("new").exists());
    };
    let all = parent("all", 0o777, None, None);
    refuse(&all, &["other users may write to", "/all (mode 0777)", "chmod +t"]);
    // A symbolic link does not hide the directory that it stands for.
    let link = home.parent.join("link");
    std::os::unix::fs::symlink(&all, &link).unwrap();
    home.run(&["backup", link.join("linked").to_str().unwrap()]).fails(1, &["/all (mode 0777)"]);
    let mut good = vec![
        parent("sticky", 0o1777, None, None),
        parent("own_group", 0o770, None, None),
        parent("readable", 0o755, None, None),
    ];
    if geteuid().is_root() {
        let foreign = parent("foreign", 0o755, Some(12_345), None);
        refuse(&foreign, &["belongs to another user (user id 12345)", "/foreign"]);
        let sticky = parent("foreign_sticky", 0o1777, Some(12_345), None);
        refuse(&sticky, &["belongs to another user"]);
        let group = parent("group", 0o775, None, Some(12_345));
        refuse(&group, &["other users may write to", "/group (mode 0775)"]);
        good.push(parent("group_reads", 0o755, None, Some(12_345)));
    }
    for above in good {
        for dir in [above.join("new"), above.join("missing/new")] {
            home.json(&["backup", dir.to_str().unwrap()]);
            assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o7777, 0o700);
        }
    }
}
