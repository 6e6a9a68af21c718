//! Refused starts: messages and exit codes.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;

use rustix::process::geteuid;

use crate::harness::process::Home;
use crate::harness::server::database;
use crate::harness::store::{self, MigrationFault};

#[test]
fn port_in_use_is_refused_before_setup() {
    let other_program = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other_program.local_addr().unwrap().to_string();
    let mut home = Home::new();
    home.set("MUSTER__SERVER__BIND", &address);
    home.run(&["serve"]).fails(
        1,
        &["error: cannot listen on", &address, "another program", "server.bind", "muster doctor"],
    );
    assert!(!home.data_dir.exists());
}

#[test]
fn unusable_addresses_are_mistakes_of_the_configuration() {
    for key in ["MUSTER__SERVER__BIND", "MUSTER__METRICS__BIND"] {
        for (address, remedy) in
            [("192.0.2.1:7080", "no such address"), ("nowhere.invalid:7080", "address and port")]
        {
            let mut home = Home::new();
            home.set(key, address);
            home.run(&[]).fails(2, &[&format!("cannot listen on {address}"), remedy]);
            assert!(!home.data_dir.exists());
        }
    }
}

#[test]
fn second_server_on_a_port_does_not_disturb_the_first() {
    let mut home = Home::with_database();
    let server = home.serve();
    home.set("MUSTER__SERVER__BIND", &server.address.to_string());
    home.run(&["serve"]).fails(1, &["a Muster that already runs"]);
    assert!(home.postmaster().is_some());
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_database_is_refused() {
    let database = database().await;
    let home = Home::for_database(&database);
    let mut connection = store::connect_to(&database).await;
    store::save_migrations(&mut connection).await;
    store::damage_migrations(&mut connection, MigrationFault::Newer).await;
    let parts = ["newer than this program", "9000", "Run the newer Muster", "backup"];
    home.run(&["serve"]).fails(1, &parts);
    home.run(&["app", "list"]).fails(1, &parts);
    home.run(&["migrate"]).fails(1, &parts);
    let status = home.run(&["migrate", "status"]);
    assert_eq!(status.status.code(), Some(1), "{status:#?}");
    assert!(status.stderr.contains("9000"), "{status:#?}");

    // A failed or altered migration is refused too.
    for fault in [MigrationFault::Unfinished, MigrationFault::Altered] {
        store::restore_migrations(&mut connection).await;
        store::damage_migrations(&mut connection, fault).await;
        let parts = ["migration 2 is not as this program left it", "backup"];
        home.run(&["serve"]).fails(1, &parts);
    }
}

#[test]
fn data_of_a_newer_postgresql_are_refused() {
    let home = Home::with_database();
    fs::write(home.postgres().join("PG_VERSION"), "99\n").unwrap();
    let data = home.postgres().display().to_string();
    home.run(&["serve"]).fails(1, &["made by PostgreSQL 99", &data, "database.postgres_dir"]);
    assert!(home.postmaster().is_none());
}

/// The directory belongs to the user of PostgreSQL, and Muster may run as root.
#[test]
fn files_behind_links_in_the_directory_of_postgresql_are_not_printed() {
    let home = Home::with_database();
    let secret = home.parent.join("shadow");
    fs::write(&secret, "root:Sesame:1:0\n").unwrap();
    let version = home.postgres().join("PG_VERSION");
    fs::remove_file(&version).unwrap();
    std::os::unix::fs::symlink(&secret, &version).unwrap();
    for command in [
        &["serve"][..],
        &["migrate", "--create-database"],
        &["app", "list"],
        &["backup", "copy"],
        &["doctor"],
    ] {
        let output = home.run(command);
        assert_eq!(output.status.code(), Some(1), "{output:#?}");
        let all = format!("{}{}", output.stdout, output.stderr);
        assert!(!all.contains("Sesame"), "{all}");
        assert!(all.contains("has a link as PG_VERSION, which is not followed"), "{all}");
    }
    assert!(home.postmaster().is_none());
}

#[test]
fn invalid_programs_directory_leaves_no_data_directory() {
    let mut home = Home::new();
    home.set("MUSTER__DATABASE__POSTGRES_DIR", "/nowhere");
    for command in [
        &["serve"][..],
        &["migrate", "--create-database"],
        &["app", "create", "--buin", "1", "--create-database"],
    ] {
        home.run(command).fails(2, &["database.postgres_dir is /nowhere"]);
    }
    assert!(!home.data_dir.exists());
}

#[test]
fn only_a_server_creates_a_database_without_a_flag() {
    let home = Home::new();
    let id = "00000000-0000-7000-8000-000000000000.1.yd5D7F8E6A";
    let app = ["--buin", "1", "--app-id", "yd5D7F8E6A"];
    for command in [
        &["app", "list"][..],
        &[&["app", "show"], &app[..]].concat(),
        &["key", "list"],
        &["delivery", "list"],
        &["delivery", "show", id],
        &["migrate", "status"],
        &["migrate"],
        &["migrate", "--json"],
        &["app", "create", "--buin", "1"],
        &[&["app", "create", "--json"], &app[..]].concat(),
        &[&["key", "create"], &app[..]].concat(),
        &["key", "revoke", "0011223344556677"],
        &["audit", "list"],
        &["secrets", "status"],
        &["secrets", "rotate"],
        &["backup", "copy"],
        &["move-to", "postgres://127.0.0.1:1/m"],
    ] {
        home.run(command).fails(
            1,
            &[
                "there is no database in",
                "muster serve",
                "muster app create --create-database",
                "set data_dir",
            ],
        );
        assert!(!home.data_dir.exists(), "{command:?}");
    }
    // A database beside the wrong directory is not mistaken for one in it.
    let other = Home::with_database();
    let mut wrong = Home::new();
    wrong.set("MUSTER__DATA_DIR", other.parent.to_str().unwrap());
    wrong.run(&["app", "create", "--buin", "1"]).fails(1, &["there is no database in"]);
    assert!(!other.parent.join("postgres").exists());

    home.run(&["app", "create", "--buin", "1", "--create-database"]).ok();
    home.run(&["app", "create", "--buin", "2", "--create-database"]).ok();
    home.run(&["app", "create", "--buin", "3"]).ok();
    assert_eq!(home.json(&["app", "list"]).as_array().unwrap().len(), 3);
    let server = home.serve();
    assert!(!home.data_dir.join("first-app.json").exists());
    server.stop();

    let home = Home::new();
    home.run(&["migrate", "--create-database"]).ok();
    home.run(&["migrate"]).ok();
    home.run(&["migrate", "status"]).ok();
}

#[test]
fn plain_http_beyond_loopback_can_be_forbidden() {
    let mut home = Home::with_database();
    home.set("MUSTER__SERVER__REQUIRE_TLS", "true");
    let server = home.serve();
    server.stop();
    home.set("MUSTER__SERVER__BIND", "0.0.0.0:0");
    for command in ["serve", "doctor"] {
        let run = home.run(&[command]);
        let output = format!("{}{}", run.stdout, run.stderr);
        assert!(output.contains("server.require_tls is true"), "{command}: {output}");
        assert!(output.contains("server.tls_cert"), "{command}: {output}");
    }
    home.run(&["serve"]).fails(2, &["server.require_tls is true"]);
}

#[test]
fn data_of_another_user_are_refused() {
    let mut home = Home::with_database();
    if geteuid().is_root() {
        // As root, the wrong owner is root.
        let owner = fs::metadata(home.postgres()).unwrap().uid();
        assert_ne!(owner, 0);
        std::os::unix::fs::chown(home.postgres(), Some(0), Some(0)).unwrap();
        let data = home.postgres().display().to_string();
        home.run(&["serve"]).fails(1, &["belongs to root", "chown -R", &data]);
    } else {
        home.set("MUSTER__DATA_DIR", "/usr");
        home.run(&["serve"]).fails(1, &["/usr belongs to uid 0", "chown -R", "data_dir"]);
    }
}

#[test]
fn all_configuration_errors_are_reported() {
    let mut home = Home::new();
    let file = home.parent.join("muster.toml");
    fs::write(
        &file,
        "[server]\nbnid = \"127.0.0.1:1\"\n[limits]\nmin_members = 5\nmax_members = 4\n\
         [log]\nformat = \"xml\"\n",
    )
    .unwrap();
    home.set("MUSTER__TOKEN__EXPIRE_IN", "soon");
    home.set("MUSTER__DATABASE__URI", "postgres://u:Sesame@h/d");
    let named = [
        "5 mistakes",
        "server.bnid",
        "did you mean `server.bind`?",
        "muster.toml, line 2",
        "limits.min_members = 5",
        "at most limits.max_members, which is 4",
        "log.format = \"xml\"",
        "\"pretty\" or \"json\"",
        "token.expire_in = \"soon\"",
        "environment variable MUSTER__TOKEN__EXPIRE_IN",
        "MUSTER__DATABASE__URI",
        "did you mean `MUSTER__DATABASE__URL`?",
    ];
    let config = ["--config", file.to_str().unwrap()];
    for command in [&["serve"][..], &["app", "list"], &["migrate"]] {
        let output = home.run(&[&config, command].concat());
        output.fails(2, &named);
        assert!(!output.stderr.contains("Sesame"), "{output:#?}");
    }
    home.set("MUSTER_CONFIG", file.to_str().unwrap());
    home.run(&[]).fails(2, &named);
    home.run(&["--config", "nowhere.toml"]).fails(2, &["cannot read", "nowhere.toml"]);
    fs::write(&file, "server = [").unwrap();
    home.run(&[]).fails(2, &["not valid TOML", "line 1"]);
    assert!(!home.data_dir.exists());
}

#[test]
fn environment_overrides_the_file() {
    let mut home = Home::with_database();
    let file = home.parent.join("muster.toml");
    fs::write(&file, "[log]\nformat = \"json\"\n[server]\nbind = \"192.0.2.1:1\"\n").unwrap();
    home.set("MUSTER_CONFIG", file.to_str().unwrap());
    // The environment's address is used: the one in the file cannot be bound.
    let output = home.serve().stop();
    assert!(output.stderr.starts_with('{'), "{output:#?}");
}

#[test]
fn unreachable_database_error_hides_the_password() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let mut home = Home::new();
    home.set("MUSTER__DATABASE__ACQUIRE_TIMEOUT", "1s");
    for (url, cause) in [
        (format!("postgres://u:Sesame@127.0.0.1:{port}/muster"), "refused"),
        (format!("postgres://u@127.0.0.1:{port}/muster?password=Sesame"), "refused"),
        ("postgres://u:Sesame@database.invalid/muster".to_owned(), "lookup"),
    ] {
        home.set("MUSTER__DATABASE__URL", &url);
        for command in [&["serve"][..], &["app", "list"], &["migrate", "status"]] {
            let output = home.run(command);
            output.fails(1, &["database.url", cause]);
            assert_eq!(output.stderr.matches(cause).count(), 1, "{output:#?}");
            assert!(!output.stderr.contains("Sesame"), "{output:#?}");
        }
    }
    assert!(!home.data_dir.exists());
}

#[test]
fn database_link_that_may_be_without_tls_is_reported() {
    let mut home = Home::new();
    home.set("MUSTER__DATABASE__ACQUIRE_TIMEOUT", "1s");
    for (query, is_reported) in [
        ("", true),
        ("?sslmode=disable", true),
        ("?sslmode=prefer", true),
        ("?sslmode=require", false),
        ("?sslmode=verify-full", false),
    ] {
        let url = format!("postgres://u:Sesame@database.invalid/muster{query}");
        home.set("MUSTER__DATABASE__URL", &url);
        let served = home.run(&["serve"]);
        served.fails(1, &["database.url"]);
        let doctor = home.run(&["doctor"]);
        assert_eq!(doctor.status.code(), Some(1), "{doctor:#?}");
        let found = "database.url permits connections to database.invalid without TLS";
        assert_eq!(served.stderr.contains(found), is_reported, "{query}: {served:#?}");
        assert_eq!(doctor.stdout.contains(found), is_reported, "{query}: {doctor:#?}");
        assert_eq!(doctor.stdout.contains("warn  link"), is_reported, "{query}: {doctor:#?}");
        assert!(!format!("{served:?}{doctor:?}").contains("Sesame"), "{doctor:#?}");
    }
    // The environment completes the URL.
    home.set("MUSTER__DATABASE__URL", "postgres://u@database.invalid/muster");
    home.set("PGSSLMODE", "verify-full");
    assert!(!home.run(&["doctor"]).stdout.contains("warn  link"));
}

#[test]
fn database_certificate_that_is_not_checked_is_reported() {
    let mut home = Home::new();
    home.set("MUSTER__DATABASE__ACQUIRE_TIMEOUT", "1s");
    for (url, is_reported) in [
        ("postgres://u@database.invalid/muster?sslmode=require", true),
        ("postgres://u@localhost:1,database.invalid/muster?sslmode=require", true),
        ("postgres://u@database.invalid/muster?sslmode=verify-ca", false),
        ("postgres://u@database.invalid/muster?sslmode=verify-full", false),
        ("postgres://u@localhost:1/muster?sslmode=require", false),
        // The link may have no TLS at all, which is another finding.
        ("postgres://u@database.invalid/muster", false),
    ] {
        home.set("MUSTER__DATABASE__URL", url);
        let doctor = home.run(&["doctor"]);
        let found = "database.url does not check the certificate of database.invalid";
        assert_eq!(doctor.stdout.contains(found), is_reported, "{url}: {doctor:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_login_is_reported() {
    let database = database().await;
    let mut home = Home::for_database(&database);
    let nowhere = database.options.clone().database("nowhere_to_be_found");
    let url = store::url(&nowhere);
    home.set("MUSTER__DATABASE__URL", url.as_str());
    home.run(&["serve"]).fails(1, &["database.url", "nowhere_to_be_found"]);
}

#[test]
fn pending_migrations_error_names_the_remedy() {
    let mut home = Home::new();
    home.set("MUSTER__DATABASE__MIGRATE", "false");
    let output = home.run(&["serve"]);
    assert_eq!(output.status.code(), Some(1), "{output:#?}");
    assert!(output.stderr.contains("run `muster migrate` first"), "{output:#?}");
    assert!(home.postmaster().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_parts_of_the_url_are_mistakes_of_the_configuration() {
    let database = database().await;
    let url = store::url(&database.options);
    let (plain, _) = url.split_once('?').unwrap();
    for (query, parts) in [
        ("sslmode=verfy-full", &["sslmode", "verfy-full"][..]),
        ("sslmode=require&sslrootcert=/nowhere/ca.pem", &["sslrootcert", "/nowhere/ca.pem"]),
        ("sslmode=require&sslcert=/nowhere/me.pem", &["sslcert", "/nowhere/me.pem"]),
        ("sslmode=require&sslkey=/nowhere/me.key", &["sslkey", "/nowhere/me.key"]),
    ] {
        let mut home = Home::for_database(&database);
        home.set("MUSTER__DATABASE__URL", &format!("{plain}?{query}"));
        for command in [&["serve"][..], &["app", "list"], &["migrate", "status"]] {
            home.run(command).fails(2, &[&["database.url"], parts].concat());
        }
    }
}
