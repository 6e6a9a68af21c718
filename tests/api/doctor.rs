//! `muster doctor`: its verdicts, remedies and exit codes.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;

use crate::harness::process::{Home, Running, Server};
use crate::harness::rows::start_postgres;
use crate::harness::server::{database, owned_database};
use crate::harness::store::{self, MigrationFault};
use crate::harness::wait_until;

/// Runs the doctor with and without `--json` and compares both outputs.
#[track_caller]
fn doctor(home: &Home, code: i32) -> Vec<Value> {
    let json = home.run(&["doctor", "--json"]);
    assert_eq!(json.status.code(), Some(code), "{json:#?}");
    let checks = json.json().as_array().unwrap().clone();
    let text = home.run(&["doctor"]);
    assert_eq!(text.status.code(), Some(code), "{text:#?}");
    for check in &checks {
        let name = check["check"].as_str().unwrap();
        let verdict = match check["verdict"].as_str().unwrap() {
            "ok" => "ok  ",
            "warn" => "warn",
            "fail" => "FAIL",
            other => panic!("{other}"),
        };
        let line = text.stdout.lines().find(|line| line[6..].starts_with(name));
        assert!(line.is_some_and(|line| line.starts_with(verdict)), "{check}: {text:#?}");
        assert_eq!(check["remedy"].is_string(), verdict != "ok  ", "{check}");
        if let Some(remedy) = check["remedy"].as_str() {
            assert!(text.stdout.contains(&format!("-> {remedy}")), "{text:#?}");
        }
    }
    checks
}

#[track_caller]
fn find<'a>(checks: &'a [Value], name: &str) -> (&'a str, &'a str, &'a str) {
    let check = checks.iter().find(|check| check["check"] == name);
    let check = check.unwrap_or_else(|| panic!("no {name} in {checks:#?}"));
    let field = |name| check[name].as_str().unwrap_or_default();
    (field("verdict"), field("found"), field("remedy"))
}

#[test]
fn fresh_machine_passes_and_is_not_changed() {
    let home = Home::new();
    let checks = doctor(&home, 0);
    let names: Vec<_> = checks.iter().map(|check| check["check"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["configuration", "data_dir", "disk", "postgresql", "database", "port", "metrics"]
    );
    let (verdict, found, _) = find(&checks, "database");
    assert!(verdict == "ok" && found.contains("first `muster serve`"), "{found}");
    let (_, found, _) = find(&checks, "postgresql");
    assert!(found.contains(" in /"), "{found}");
    assert!(!home.data_dir.exists(), "the doctor creates nothing");
}

#[test]
fn running_server_is_recognized() {
    let mut home = Home::with_database();
    let server = home.serve();
    home.set("MUSTER__SERVER__BIND", &server.address.to_string());
    let metrics = server.running.until_stderr("the metrics address", |log| {
        Some(log.split_once(" metrics=")?.1.split_once('\n')?.0.to_owned())
    });
    home.set("MUSTER__METRICS__BIND", &metrics);
    let checks = doctor(&home, 0);
    let (verdict, found, _) = find(&checks, "metrics");
    assert!(verdict == "ok" && found.contains("used by a running Muster"), "{found}");
    let (verdict, found, _) = find(&checks, "port");
    assert!(verdict == "ok" && found.contains("used by a running Muster 0."), "{found}");
    assert!(find(&checks, "database").1.contains("answers"));
    assert_eq!(find(&checks, "migrations").1, "current");
    assert_eq!(find(&checks, "clock").0, "ok");
    server.stop();

    // The server is stopped: the doctor starts its database and stops it again.
    let checks = doctor(&home, 0);
    assert!(find(&checks, "port").1.contains("is free"));
    assert!(find(&checks, "metrics").1.contains("is free"));
    assert_eq!(find(&checks, "migrations").1, "current");
    assert!(home.postmaster().is_none());
}

/// A program that is not Muster and answers every request. Returns its address.
fn other_program() -> String {
    use std::io::{Read as _, Write as _};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        }
    });
    address
}

#[test]
fn port_of_another_program_is_a_failure() {
    let mut home = Home::new();
    let (api, metrics) = (other_program(), other_program());
    home.set("MUSTER__SERVER__BIND", &api);
    home.set("MUSTER__METRICS__BIND", &metrics);
    let checks = doctor(&home, 1);
    for (check, address, key) in
        [("port", &api, "server.bind"), ("metrics", &metrics, "metrics.bind")]
    {
        let (verdict, found, remedy) = find(&checks, check);
        assert_eq!(verdict, "fail");
        assert!(found.contains(address) && remedy.contains(key), "{found} {remedy}");
    }
}

/// A proxy that forwards bytes to `to`. Returns its address.
fn proxy(to: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        while let Ok((client, _)) = listener.accept() {
            let server = std::net::TcpStream::connect(&to).unwrap();
            for (mut from, mut to) in
                [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
            {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
            }
        }
    });
    address
}

#[test]
fn port_of_another_installation_is_a_failure() {
    let other = Home::with_database();
    let server = other.serve();
    let metrics = server.running.until_stderr("the metrics address", |log| {
        Some(log.split_once(" metrics=")?.1.split_once('\n')?.0.to_owned())
    });
    let mut home = Home::with_database();
    for (api, metrics) in [
        (server.address.to_string(), metrics.clone()),
        (proxy(server.address.to_string()), proxy(metrics)),
    ] {
        home.set("MUSTER__SERVER__BIND", &api).set("MUSTER__METRICS__BIND", &metrics);
        let checks = doctor(&home, 1);
        for (check, address, key) in
            [("port", &api, "server.bind"), ("metrics", &metrics, "metrics.bind")]
        {
            let (verdict, found, remedy) = find(&checks, check);
            assert_eq!(verdict, "fail", "{found}");
            assert!(found.contains(address) && remedy.contains(key), "{found} {remedy}");
        }
        home.run(&["serve"]).fails(1, &["cannot listen on"]);
    }
    // The port of the proxy is not that of the server behind it, also for its own installation.
    let mut own = Home::new();
    own.env.clone_from(&other.env);
    own.set("MUSTER__SERVER__BIND", &proxy(server.address.to_string()));
    let output = own.run(&["doctor"]);
    assert_eq!(output.status.code(), Some(1), "{output:#?}");
    server.stop();
}

/// Without a data directory, no server of this installation can run.
#[test]
fn port_of_another_installation_is_a_failure_before_the_first_start() {
    let other = Home::with_database();
    let server = other.serve();
    let mut home = Home::new();
    home.set("MUSTER__SERVER__BIND", &server.address.to_string());
    let checks = doctor(&home, 1);
    let (verdict, found, remedy) = find(&checks, "port");
    assert!(verdict == "fail" && found.contains("a running Muster 0."), "{found}");
    assert!(remedy.contains("set server.bind"), "{remedy}");
    home.run(&["serve"]).fails(1, &["cannot listen on"]);
    assert!(!home.data_dir.exists());
}

/// With an external database, the server at the port tells whether it is one of this database.
#[tokio::test(flavor = "multi_thread")]
async fn server_of_another_external_database_is_a_failure() {
    let (own, other) = (database().await, database().await);
    let mut home = Home::for_database(&own);
    let metrics_of = |server: &Server| {
        server.running.until_stderr("the metrics address", |log| {
            Some(log.split_once(" metrics=")?.1.split_once('\n')?.0.to_owned())
        })
    };
    let (own_server, other_server) = (home.serve(), Home::for_database(&other).serve());
    let (api, metrics) = (own_server.address.to_string(), metrics_of(&own_server));
    let foreign = (other_server.address.to_string(), metrics_of(&other_server));
    let proxies = (proxy(api.clone()), proxy(metrics.clone()));
    for has_data_dir in [false, true] {
        for (api, metrics) in [&foreign, &proxies] {
            home.set("MUSTER__SERVER__BIND", api).set("MUSTER__METRICS__BIND", metrics);
            let checks = doctor(&home, 1);
            for check in ["port", "metrics"] {
                let (verdict, _, remedy) = find(&checks, check);
                assert!(verdict == "fail" && remedy.contains("this database"), "{checks:#?}");
            }
            home.run(&["serve"]).fails(1, &["cannot listen on"]);
        }
        home.set("MUSTER__SERVER__BIND", &api).set("MUSTER__METRICS__BIND", &metrics);
        let checks = doctor(&home, 0);
        assert_eq!((find(&checks, "port").0, find(&checks, "metrics").0), ("ok", "ok"));
        if !has_data_dir {
            fs::create_dir(&home.data_dir).unwrap();
        }
    }
    // Without tables, the database has no server.
    let empty = owned_database().await;
    home.use_directly(&store::url(&empty.options));
    assert_eq!(find(&doctor(&home, 1), "port").0, "fail");
}

#[test]
fn wrong_configuration_is_a_failure() {
    let mut home = Home::new();
    home.set("MUSTER__LIMITS__MAX_BODY_BYTES", "lots");
    let checks = doctor(&home, 1);
    let [_] = &checks[..] else { panic!("{checks:#?}") };
    let (verdict, found, remedy) = find(&checks, "configuration");
    assert_eq!(verdict, "fail");
    assert!(found.contains("limits.max_body_bytes") && remedy.contains("muster config"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn configured_database_is_examined() {
    let database = database().await;
    let mut home = Home::for_database(&database);
    let checks = doctor(&home, 0);
    let names: Vec<_> = checks.iter().map(|check| check["check"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "configuration",
            "database",
            "clock",
            "migrations",
            "feed",
            "secrets",
            "forms",
            "port",
            "metrics"
        ]
    );

    let mut connection = store::connect_to(&database).await;
    store::damage_migrations(&mut connection, MigrationFault::OneMissing).await;
    let checks = doctor(&home, 0);
    let (verdict, found, remedy) = find(&checks, "migrations");
    assert_eq!((verdict, found), ("warn", "1 pending"));
    assert!(remedy.contains("muster migrate"));

    store::damage_migrations(&mut connection, MigrationFault::Newer).await;
    let checks = doctor(&home, 1);
    let (verdict, found, remedy) = find(&checks, "migrations");
    assert!(verdict == "fail" && found.contains("9000") && remedy.contains("newer Muster"));

    home.set("MUSTER__DATABASE__URL", "postgres://u:Sesame@127.0.0.1:1/muster");
    home.set("MUSTER__DATABASE__ACQUIRE_TIMEOUT", "1s");
    let checks = doctor(&home, 1);
    let (verdict, found, remedy) = find(&checks, "database");
    assert!(verdict == "fail" && remedy.contains("database.url"), "{found}");
    assert!(!format!("{checks:?}").contains("Sesame"));
}

#[test]
fn cause_of_a_failed_embedded_start_is_reported() {
    let mut home = Home::with_database();
    let settings = home.postgres().join("postgresql.conf");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, text + "work_mem = plenty\n").unwrap();
    let checks = doctor(&home, 1);
    let (verdict, found, remedy) = find(&checks, "database");
    assert!(verdict == "fail" && found.contains("work_mem"), "{found}");
    assert!(remedy.contains("data/postgres/log"), "{remedy}");

    home.set("MUSTER__DATABASE__POSTGRES_DIR", "/nowhere");
    let checks = doctor(&home, 1);
    let (verdict, found, _) = find(&checks, "postgresql");
    assert!(verdict == "fail" && found.contains("/nowhere"), "{found}");
}

/// `serve` refuses the same fault with the same words.
#[track_caller]
fn fails_as_serve_does(home: &Home, check: &str, parts: &[&str], remedies: &[&str]) {
    fails_as_serve_exits(home, 1, check, parts, remedies);
}

/// The same with the exit code of `serve`.
#[track_caller]
fn fails_as_serve_exits(home: &Home, code: i32, check: &str, parts: &[&str], remedies: &[&str]) {
    home.run(&["serve"]).fails(code, parts);
    let checks = doctor(home, 1);
    let (verdict, found, remedy) = find(&checks, check);
    assert_eq!(verdict, "fail", "{checks:#?}");
    for part in parts {
        assert!(found.contains(part), "no {part:?} in {found:?}");
    }
    for part in remedies {
        assert!(remedy.contains(part), "no {part:?} in {remedy:?}");
    }
}

#[test]
fn unusable_data_directory_is_a_failure() {
    let home = Home::new();
    fs::write(&home.data_dir, "").unwrap();
    let parts = ["could not use as data_dir", "/data"];
    fails_as_serve_exits(&home, 2, "data_dir", &parts, &["see that it exists"]);
    for command in [&["migrate", "--create-database"][..], &["app", "list"], &["backup", "copy"]] {
        home.run(command).fails(2, &parts);
    }
    let below = home.data_dir.join("below");
    let mut home = Home::new();
    home.set("MUSTER__DATA_DIR", below.to_str().unwrap());
    let parts = ["could not enter data_dir", "below"];
    fails_as_serve_exits(&home, 2, "data_dir", &parts, &["see that it exists"]);

    if geteuid().is_root() {
        let home = Home::new();
        fs::create_dir(&home.data_dir).unwrap();
        chown(&home.data_dir, Some(65534), Some(65534)).unwrap();
        let remedies = ["run Muster as uid 65534", "chown 0", "data_dir"];
        fails_as_serve_does(&home, "data_dir", &["belongs to uid 65534"], &remedies);
        assert_eq!(fs::read_dir(&home.data_dir).unwrap().count(), 0);
        // A command that only reads reports this fault, not a missing database.
        home.run(&["app", "list"]).fails(1, &["belongs to uid 65534"]);
    } else {
        let home = Home::new();
        fs::create_dir(&home.data_dir).unwrap();
        fs::set_permissions(&home.data_dir, fs::Permissions::from_mode(0o500)).unwrap();
        fails_as_serve_does(&home, "data_dir", &["mode 500"], &["chmod 700"]);
        let below = home.data_dir.join("below");
        let mut home = Home::new();
        home.set("MUSTER__DATA_DIR", below.to_str().unwrap());
        fails_as_serve_does(&home, "data_dir", &["could not create", "below"], &["may do so"]);
    }
}

#[test]
fn content_of_the_data_directory_is_checked() {
    let home = Home::with_database();
    let version = home.postgres().join("PG_VERSION");
    let right = fs::read(&version).unwrap();
    fs::write(&version, "99\n").unwrap();
    let parts = ["made by PostgreSQL 99"];
    fails_as_serve_does(&home, "postgresql", &parts, &["install PostgreSQL 99", "postgres_dir"]);
    // A directory in place of the file cannot be read, which is not a missing database.
    fs::remove_file(&version).unwrap();
    fs::create_dir(&version).unwrap();
    fails_as_serve_does(&home, "data_dir", &["could not read", "PG_VERSION"], &["see that"]);
    fs::remove_dir(&version).unwrap();
    fs::write(&version, right).unwrap();
    if geteuid().is_root() {
        let owner = fs::metadata(home.postgres()).unwrap().uid();
        chown(&version, Some(owner), None).unwrap();
    }

    fs::set_permissions(&home.data_dir, fs::Permissions::from_mode(0o755)).unwrap();
    let checks = doctor(&home, 0);
    let (verdict, found, remedy) = find(&checks, "data_dir");
    assert!(verdict == "warn" && found.contains("mode 755"), "{checks:#?}");
    assert!(remedy.contains("chmod 700"), "{remedy}");
    let output = home.serve().stop();
    assert_eq!(output.stderr.matches("chmod 700").count(), 1, "{output:#?}");

    fs::write(home.data_dir.join("first-app.json"), "# my notes").unwrap();
    fails_as_serve_does(&home, "data_dir", &["first-app.json"], &["remove it"]);
}

#[test]
fn doctor_does_not_download() {
    let mut home = Home::with_database();
    let version = home.postgres().join("PG_VERSION");
    fs::write(&version, "99\n").unwrap();
    home.set("MUSTER__DATABASE__DOWNLOAD", "true");
    let checks = doctor(&home, 0);
    let (verdict, _, remedy) = find(&checks, "postgresql");
    assert!(verdict == "warn" && remedy.contains("try to download"), "{checks:#?}");
    assert!(remedy.contains("install PostgreSQL 99"), "{remedy}");
    assert_eq!(find(&checks, "database").0, "warn");
}

#[track_caller]
fn not_checked(checks: &[Value]) {
    for name in ["clock", "migrations", "feed", "secrets", "forms"] {
        let (verdict, found, _) = find(checks, name);
        assert_eq!((verdict, found), ("warn", "not checked: the database does not answer"));
    }
}

#[test]
fn silent_database_is_awaited_once_and_briefly() {
    // The system accepts connections, and no program reads them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut home = Home::new();
    let url = format!("postgres://u:Sesame@{}/muster", silent.local_addr().unwrap());
    home.set("MUSTER__DATABASE__URL", &url);
    home.set("MUSTER__DATABASE__ACQUIRE_TIMEOUT", "10m");
    let list = Running::start(&home, &["app", "list"]);
    let checks = doctor(&home, 1);
    let (verdict, found, remedy) = find(&checks, "database");
    assert!(verdict == "fail" && found.contains("has not answered within 5s"), "{found}");
    assert!(remedy.contains("that PostgreSQL runs"), "{remedy}");
    not_checked(&checks);
    assert_eq!(find(&checks, "port").0, "ok");
    list.output().fails(1, &["has not answered within 10s"]);

    // Earlier results are printed while the doctor waits.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://u:Sesame@{}/muster", silent.local_addr().unwrap());
    home.set("MUSTER__DATABASE__URL", &url);
    let waiting = Running::start(&home, &["doctor"]);
    let _connection = silent.accept().unwrap();
    waiting.signal(Signal::STOP);
    waiting.until_stdout("the first check", |text| text.contains("configuration").then_some(()));
    waiting.signal(Signal::CONT);
    assert_eq!(waiting.output().status.code(), Some(1));
}

/// A process that is stopped until the guard is dropped.
struct Frozen(Pid);

impl Frozen {
    fn new(pid: Pid) -> Self {
        kill_process(pid, Signal::STOP).unwrap();
        Self(pid)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_embedded_database_is_reported() {
    let home = Home::with_database();
    let postgres = start_postgres(&home).await;
    let frozen = Frozen::new(home.postmaster().unwrap());
    let checks = doctor(&home, 1);
    let (verdict, found, _) = find(&checks, "database");
    assert!(verdict == "fail" && found.contains("no connection within 5 s"), "{found}");
    not_checked(&checks);
    home.run(&["app", "list"]).fails(1, &["accepted no connection within 10 s"]);
    drop(frozen);
    assert_eq!(find(&doctor(&home, 0), "database").0, "ok");
    postgres.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn change_that_gets_no_number_is_a_failure() {
    let home = Home::with_database();
    let server = home.serve();
    let mut writer = home.connect().await;
    wait_until("a server that numbers changes", async || {
        store::sequencer(&mut writer).await.is_some()
    })
    .await;
    let checks = doctor(&home, 0);
    let (verdict, found, _) = find(&checks, "feed");
    assert_eq!((verdict, found), ("ok", "a server numbers changes"));
    let mut holder = home.connect().await;
    store::strand_change(&mut holder, &mut writer).await;
    let checks = doctor(&home, 1);
    let (verdict, found, remedy) = find(&checks, "feed");
    assert_eq!(verdict, "fail", "{found}");
    assert!(found.contains("the server that numbers them makes no progress"), "{found}");
    assert!(remedy.contains("cannot number the changes"), "{remedy}");
    store::close(holder).await.unwrap();
    server.stop();
}
