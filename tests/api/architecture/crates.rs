//! Crates, SQL and I/O are used only in their rooms.

use super::fail_on;
use super::imports::Tree;
use super::layers::{COMPOSITION_ROOT, PURE, in_files, room};
use super::source::{self, Source};

/// The rooms that may use a crate or a part of `std`.
const CRATES: [(&str, &[&str]); 43] = [
    ("actix_web", &["http"]),
    ("actix_http", &["http"]),
    ("actix_rt", &["http"]),
    ("actix_server", &["http"]),
    ("actix_service", &["http"]),
    // Stored secrets are sealed in one place.
    ("chacha20poly1305", &["wire"]),
    ("flate2", &["http"]),
    ("form_urlencoded", &["http", "wire"]),
    ("governor", &["http"]),
    ("h2", &["http"]),
    ("hyper", &["delivery"]),
    ("tower_layer", &["delivery"]),
    ("tower_service", &["delivery"]),
    ("humantime", &["cli", "http", "config"]),
    ("memchr", &["http", "wire"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_http", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("percent_encoding", &["http", "wire", "repository", "postgres", "keyring"]),
    ("pin_project_lite", &["http"]),
    ("prometheus_client", &["metrics"]),
    ("serde_path_to_error", &["http"]),
    ("serde_urlencoded", &["http"]),
    ("tokio_rustls", &["http"]),
    ("tokio_util", &["http"]),
    ("utoipa", &["http"]),
    ("sqlx", &["repository", "postgres"]),
    ("anyhow", &["cli"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("sd_notify", &["cli"]),
    ("sysinfo", &["repository", "postgres", "keyring"]),
    ("x509_parser", &["cli"]),
    ("reqwest", &["cli", "delivery", "config", "telemetry"]),
    (
        "tokio",
        &["cli", "http", "delivery", "service", "repository", "postgres", "keyring", "telemetry"],
    ),
    ("futures_util", &["cli", "http", "service", "repository", "postgres", "keyring"]),
    (
        "tracing",
        &["cli", "http", "delivery", "service", "repository", "postgres", "keyring", "telemetry"],
    ),
    ("serde", &["cli", "http", "service", "repository", "postgres", "keyring", "wire"]),
    // In the domain only for the values of attributes.
    (
        "serde_json",
        &[
            "cli",
            "http",
            "delivery",
            "service",
            "repository",
            "postgres",
            "keyring",
            "wire",
            "domain",
        ],
    ),
    ("std::fs", &["cli", "repository", "postgres", "keyring", "config", "metrics"]),
    ("std::net", &["cli", "http", "delivery", "config"]),
];

/// The file of each misplaced use, and a text about it.
fn misplaced(sources: &[Source]) -> Vec<(String, String)> {
    let mut mistakes = Vec::new();
    for source in sources {
        let room = room(source);
        let is_root = COMPOSITION_ROOT.contains(&source.name.as_str());
        for (used, rooms) in CRATES {
            if room.is_empty() || rooms.contains(&room) || (used == "sqlx" && is_root) {
                continue;
            }
            for at in source.all(used) {
                let is_path = source.code[at + used.len()..].starts_with("::");
                let is_import = source.code[..at].ends_with("use ");
                if is_path || is_import {
                    let text = format!(
                        "{}: `{used}` is for {}, not for `{room}`",
                        source.line(at),
                        rooms.join(", ")
                    );
                    mistakes.push((source.name.clone(), text));
                }
            }
        }
    }
    mistakes
}

#[test]
fn crates_are_used_only_in_their_rooms() {
    fail_on(&in_files(misplaced(&source::read("src"))));
}

#[test]
fn sqlx_in_the_service_is_found() {
    let tree = Tree::planted(&[
        ("service/mod.rs", "fn f(connection: &mut sqlx::PgConnection) {}\nfn g() { my_sqlx::x() }"),
        ("service/pool.rs", "// sqlx::PgPool\nfn f() { \"sqlx::PgPool\"; }"),
        ("repository/mod.rs", "use sqlx::PgPool;"),
        ("postgres/mod.rs", "use sqlx::PgPool;"),
        ("cli/database.rs", "use sqlx::PgPool;"),
        ("cli/app.rs", "use sqlx;"),
    ]);
    let found: Vec<String> = misplaced(&tree.sources).into_iter().map(|(file, _)| file).collect();
    assert_eq!(found, ["src/service/mod.rs", "src/cli/app.rs"]);
}

#[test]
fn sql_is_only_in_the_repository() {
    const STATEMENTS: [&str; 11] = [
        "query!",
        "query_as!",
        "query_scalar!",
        "query_file!",
        "sqlx::query",
        "sqlx::query_as",
        "sqlx::query_scalar",
        "sqlx::raw_sql",
        "raw_sql",
        "QueryBuilder",
        "migrate!",
    ];
    let mut mistakes = Vec::new();
    for source in source::read("src") {
        if ["repository", "postgres"].contains(&room(&source)) {
            continue;
        }
        for statement in STATEMENTS {
            for at in source.all(statement) {
                let (name, line) = (&source.name, source.line(at));
                mistakes.push(format!("{name}:{line}: `{statement}` outside of `repository`"));
            }
        }
    }
    fail_on(&mistakes);
}

#[test]
fn pure_rooms_have_no_io() {
    const IMPURE: [&str; 9] = [
        "async",
        "std::env",
        "std::fs",
        "std::io::stdin",
        "std::net",
        "std::process",
        "std::thread",
        "SystemTime",
        "Instant",
    ];
    let mut mistakes = Vec::new();
    for source in source::read("src").iter().filter(|source| PURE.contains(&room(source))) {
        for impure in IMPURE {
            for at in source.all(impure) {
                let (name, line) = (&source.name, source.line(at));
                mistakes.push(format!("{name}:{line}: `{impure}` in `{}`", room(source)));
            }
        }
    }
    fail_on(&mistakes);
}
