//! The users and the role that the embedded PostgreSQL admits, and the environment that it ignores.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::geteuid;
use serde_json::json;

use crate::harness::process::Home;
use crate::harness::store::PgConnection;

/// The directory of PostgreSQL's programs, and the user and the group that own its files.
fn programs(home: &Home) -> (PathBuf, u32, u32) {
    let command_line = fs::read_to_string(home.postgres().join("postmaster.opts")).unwrap();
    let program = PathBuf::from(command_line.split_whitespace().next().unwrap());
    let owner = fs::metadata(home.postgres()).unwrap();
    (program.parent().unwrap().to_owned(), owner.uid(), owner.gid())
}

/// A command that runs as this user, if the test runs as root.
fn command_as(program: &Path, (uid, gid): (u32, u32)) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").stdin(Stdio::null());
    if geteuid().is_root() {
        command.uid(uid).gid(gid);
    }
    command
}

fn succeeded(output: &Output) {
    assert!(output.status.success(), "{output:#?}");
}

async fn role(connection: &mut PgConnection) -> (String, bool, bool, bool) {
    sqlx::query_as(
        "select rolname::text, rolsuper, rolcreaterole, rolcreatedb from pg_roles
         where rolname = current_user",
    )
    .fetch_one(connection)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn service_uses_an_ordinary_role() {
    let home = Home::with_database();
    let server = home.serve();
    let mut connection = home.connect().await;
    assert_eq!(role(&mut connection).await, ("muster".to_owned(), false, false, false));
    // Everything works as this role.
    server.plain_client(&home.api_key()).create().await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_user_of_the_machine_is_not_admitted() {
    if !geteuid().is_root() {
        return;
    }
    let home = Home::with_database();
    let server = home.serve();
    let (programs, uid, gid) = programs(&home);
    let socket = format!("/proc/{}/cwd", home.postmaster().unwrap().as_raw_nonzero());
    for role in ["muster", "postgres"] {
        // The user of PostgreSQL can reach the socket.
        let mut psql = command_as(&programs.join("psql"), (uid, gid));
        psql.args(["-h", &socket, "-U", role, "-d", "muster", "-c", "select 1"]);
        let Ok(output) = psql.output() else { return };
        assert!(!output.status.success(), "{output:#?}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("Peer authentication failed"), "{error}");
    }
    let rules = fs::read_to_string(home.postgres().join("pg_hba.conf")).unwrap();
    assert!(!rules.contains("trust"), "{rules}");
    server.stop();
}

/// Files as an earlier version made them: `muster` is the superuser, and every process is admitted.
fn made_by_an_earlier_version(home: &Home, with_database: bool) {
    let model = Home::with_database();
    let (programs, uid, gid) = {
        let server = model.serve();
        let found = programs(&model);
        server.stop();
        found
    };
    fs::create_dir_all(home.postgres()).unwrap();
    if geteuid().is_root() {
        chown(home.postgres(), Some(uid), Some(gid)).unwrap();
    }
    // The user of PostgreSQL must be able to enter these directories for a moment.
    let above: Vec<_> = home.postgres().ancestors().skip(1).take(3).map(Path::to_owned).collect();
    let modes: Vec<_> =
        above.iter().map(|path| fs::metadata(path).unwrap().permissions()).collect();
    for path in &above {
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions());
        let open = std::os::unix::fs::PermissionsExt::from_mode(mode | 0o011);
        fs::set_permissions(path, open).unwrap();
    }
    let mut initdb = command_as(&programs.join("initdb"), (uid, gid));
    initdb.args(["-U", "muster", "-A", "trust", "-E", "UTF8", "--locale=C", "-D"]);
    succeeded(&initdb.arg(home.postgres()).output().unwrap());
    let single = |database: &str, sql: &str| {
        let input = home.parent.join("input.sql");
        fs::write(&input, sql).unwrap();
        let mut postgres = command_as(&programs.join("postgres"), (uid, gid));
        postgres.args(["--single", "-j", "-c", "exit_on_error=on", "-D"]);
        postgres.arg(home.postgres()).arg(database).stdin(fs::File::open(input).unwrap());
        succeeded(&postgres.output().unwrap());
    };
    if with_database {
        single("postgres", "create database muster;\n\n");
        single(
            "muster",
            "create table note (id serial primary key, at int generated always as identity);\n\n\
             create type mood as enum ('good', 'bad');\n\n\
             create function one() returns int language sql as 'select 1';\n\n\
             create schema \"Other one\";\n\n\
             create view \"Other one\".\"view's\" as select one();\n\n\
             insert into note default values;\n\n",
        );
    }
    for (path, mode) in above.iter().zip(modes) {
        fs::set_permissions(path, mode).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_an_earlier_version_get_an_ordinary_role() {
    for with_database in [true, false] {
        let home = Home::new();
        made_by_an_earlier_version(&home, with_database);
        // The first start changes the roles, and the second one finds them changed.
        for start in 0..2 {
            let server = home.serve();
            let mut connection = home.connect().await;
            let (name, is_superuser, ..) = role(&mut connection).await;
            assert_eq!((name.as_str(), is_superuser), ("muster", false));
            let foreign: Vec<String> = sqlx::query_scalar(
                "select relname::text from pg_class where relnamespace::regnamespace::text in
                     ('public', '\"Other one\"') and relowner <> 'muster'::regrole
                 union all select proname from pg_proc where pronamespace = 'public'::regnamespace
                     and proowner <> 'muster'::regrole
                 union all select nspname from pg_namespace where nspname = 'Other one'
                     and nspowner <> 'muster'::regrole
                 union all select datname from pg_database where datname = 'muster'
                     and datdba <> 'muster'::regrole
                 union all select rolname from pg_roles where rolsuper and rolcanlogin
                     and rolname <> 'postgres'",
            )
            .fetch_all(&mut connection)
            .await
            .unwrap();
            assert_eq!(foreign, Vec::<String>::new(), "start {start}");
            if with_database {
                sqlx::query("insert into note default values")
                    .execute(&mut connection)
                    .await
                    .unwrap();
            }
            let rules = fs::read_to_string(home.postgres().join("pg_hba.conf")).unwrap();
            assert!(!rules.contains("trust"), "{rules}");
            server.plain_client(&home.api_key()).create().await;
            server.stop();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_the_user_nobody_are_taken_over() {
    if !geteuid().is_root() {
        return;
    }
    let home = Home::with_database();
    let right = fs::metadata(home.postgres()).unwrap();
    let changed = Command::new("chown").args(["-R", "nobody"]).arg(home.postgres()).status();
    assert!(changed.unwrap().success());
    let server = home.serve();
    assert_eq!(fs::metadata(home.postgres()).unwrap().uid(), right.uid());
    server.plain_client(&home.api_key()).create().await;
    server.stop();
}

/// Variables that would lead to another database, change its behaviour, or hold a secret.
const VARIABLES: [(&str, &str); 14] = [
    ("PGOPTIONS", "-c search_path=foo -c default_transaction_read_only=on"),
    ("PGHOST", "nowhere.invalid"),
    ("PGHOSTADDR", "192.0.2.1"),
    ("PGPORT", "1"),
    ("PGUSER", "mallory"),
    ("PGDATABASE", "elsewhere"),
    ("PGPASSWORD", "sesame"),
    ("PGSSLMODE", "verify-full"),
    ("PGAPPNAME", "another"),
    ("PGDATA", "/nowhere"),
    ("PGTZ", "Asia/Shanghai"),
    ("PGCLIENTENCODING", "EUC_CN"),
    ("TZ", "Asia/Shanghai"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret"),
];

#[tokio::test(flavor = "multi_thread")]
async fn environment_does_not_change_the_database() {
    let mut home = Home::new();
    let clean = Home::with_database();
    // The first start too: the data are the same.
    for (name, value) in VARIABLES {
        home.set(name, value);
    }
    let server = home.serve();
    let session = server.plain_client(&home.api_key()).create().await;
    let mut connection = home.connect().await;
    sqlx::query("create schema foo").execute(&mut connection).await.unwrap();
    for (table, expected) in [("public.session", 1), ("foo.session", 0)] {
        let sql = "select count(*) from pg_class where oid = to_regclass($1)";
        let found: i64 =
            sqlx::query_scalar(sql).bind(table).fetch_one(&mut connection).await.unwrap();
        assert_eq!(found, expected, "{table}");
    }
    // No variable reaches PostgreSQL.
    let postmaster = home.postmaster().unwrap().as_raw_nonzero();
    if let Ok(environment) = fs::read(format!("/proc/{postmaster}/environ")) {
        let environment = String::from_utf8_lossy(&environment).into_owned();
        let names: Vec<_> =
            environment.split('\0').filter(|variable| !variable.is_empty()).collect();
        for variable in names {
            let (name, _) = variable.split_once('=').unwrap();
            assert!(
                ["PATH", "LD_LIBRARY_PATH", "LC_ALL"].contains(&name) || name.starts_with("PG_"),
                "{variable}"
            );
        }
    }
    server.stop();

    // The settings that `initdb` writes are those of a clean environment.
    let settings = |home: &Home| {
        let text = fs::read_to_string(home.postgres().join("postgresql.conf")).unwrap();
        let lines = text.lines().filter(|line| line.contains("timezone = "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(settings(&home), settings(&clean));

    // Commands and a later start use the same database.
    let id = session["sessionId"].as_str().unwrap();
    let server = home.serve();
    assert_eq!(server.plain_client(&home.api_key()).get(id).await["errcode"], 0);
    assert_eq!(home.json(&["app", "list"]).as_array().unwrap().len(), 1);
    server.stop();
    let backup = home.parent.join("backup");
    let manifest = home.json(&["backup", backup.to_str().unwrap()]);
    assert_eq!(manifest["manifest"]["tables"]["session"]["rows"], json!(1), "{manifest}");
}
