//! Crates, SQL and I/O are used only in their rooms.

use super::fail_on;
use super::imports::Tree;
use super::layers::{PURE, begins_with, in_files, is_composition, room};

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
    // In the domain only for the values of attributes and the details of audit entries.
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

/// The file of each misplaced use, and a text about it. A file has one text for each crate.
fn misplaced(tree: &Tree) -> Vec<(String, String)> {
    let mut mistakes = Vec::new();
    for (index, source) in tree.sources.iter().enumerate() {
        let room = room(source);
        if room.is_empty() {
            continue;
        }
        let foreign = tree.foreign(index);
        for (used, rooms) in CRATES.iter().filter(|(_, rooms)| !rooms.contains(&room)) {
            let wrong = foreign
                .iter()
                .find(|(_, path)| begins_with(path, used) && !is_composition(source, path));
            if let Some((at, path)) = wrong {
                let text = format!(
                    "{}: `{}` is for {}, not for `{room}`",
                    source.line(*at),
                    path.join("::"),
                    rooms.join(", ")
                );
                mistakes.push((source.name.clone(), text));
            }
        }
    }
    mistakes
}

#[test]
fn crates_are_used_only_in_their_rooms() {
    fail_on(&in_files(misplaced(&Tree::read("src"))));
}

#[test]
fn misplaced_crates_are_found() {
    let tree = Tree::planted(&[
        ("service/mod.rs", "fn f(connection: &mut sqlx::PgConnection) {}\nfn g() { my_sqlx::x() }"),
        ("service/pool.rs", "// sqlx::PgPool\nfn f() { \"sqlx::PgPool\"; }"),
        ("service/renamed.rs", "use {sqlx as s};\nfn f() { s::query() }"),
        ("service/from_root.rs", "use ::sqlx;"),
        ("service/branch_from_root.rs", "use ::{sqlx as s};"),
        ("service/inline.rs", "fn f() { ::sqlx::query() }"),
        ("service/branch.rs", "use std::{fmt, fs};"),
        ("service/part.rs", "use std as s;\nfn f() { s::fs::read() }"),
        ("repository/mod.rs", "use sqlx::PgPool;"),
        ("postgres/mod.rs", "use sqlx::PgPool;"),
        ("cli/database.rs", "use sqlx::postgres::PgConnectOptions;"),
        ("cli/callbacks.rs", "use sqlx::postgres::PgConnectOptions;"),
        ("cli/app.rs", "use sqlx;"),
    ]);
    let found: Vec<String> = misplaced(&tree).into_iter().map(|(file, _)| file).collect();
    assert_eq!(
        found,
        [
            "src/service/mod.rs",
            "src/service/renamed.rs",
            "src/service/from_root.rs",
            "src/service/branch_from_root.rs",
            "src/service/inline.rs",
            "src/service/branch.rs",
            "src/service/part.rs",
            "src/cli/callbacks.rs",
            "src/cli/app.rs",
        ]
    );
}

fn misplaced_sql(tree: &Tree) -> Vec<String> {
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
    for source in &tree.sources {
        if ["repository", "postgres"].contains(&room(source)) {
            continue;
        }
        for statement in STATEMENTS {
            for at in source.all(statement) {
                let (name, line) = (&source.name, source.line(at));
                mistakes.push(format!("{name}:{line}: `{statement}` outside of `repository`"));
            }
        }
    }
    mistakes
}

#[test]
fn sql_is_only_in_the_repository() {
    fail_on(&misplaced_sql(&Tree::read("src")));
}

#[test]
fn misplaced_sql_is_found() {
    let tree = Tree::planted(&[
        ("cli/database.rs", "fn f() {\n    sqlx::query(\"select 1\"); }"),
        ("service/mod.rs", "fn f() { query_as!(Page, \"select 1\"); my_query!(); }"),
        ("repository/mod.rs", "fn f() { query!(\"select 1\"); }"),
    ]);
    assert_eq!(
        misplaced_sql(&tree),
        [
            "src/cli/database.rs:2: `sqlx::query` outside of `repository`",
            "src/service/mod.rs:1: `query_as!` outside of `repository`",
        ]
    );
}

fn impure(tree: &Tree) -> Vec<String> {
    const WORDS: [&str; 3] = ["async", "SystemTime", "Instant"];
    const PATHS: [&str; 6] =
        ["std::env", "std::fs", "std::io::stdin", "std::net", "std::process", "std::thread"];
    let mut mistakes = Vec::new();
    for (index, source) in tree.sources.iter().enumerate() {
        if !PURE.contains(&room(source)) {
            continue;
        }
        let words = WORDS.into_iter().flat_map(|word| source.all(word).map(move |at| (at, word)));
        let foreign = tree.foreign(index);
        let paths = foreign.iter().filter_map(|(at, path)| {
            let impure = PATHS.into_iter().find(|impure| begins_with(path, impure))?;
            Some((*at, impure))
        });
        for (at, impure) in words.chain(paths) {
            let (name, line) = (&source.name, source.line(at));
            mistakes.push(format!("{name}:{line}: `{impure}` in `{}`", room(source)));
        }
    }
    mistakes
}

#[test]
fn pure_rooms_have_no_io() {
    fail_on(&impure(&Tree::read("src")));
}

#[test]
fn io_in_a_pure_room_is_found() {
    let tree = Tree::planted(&[
        ("domain/mod.rs", "use std::{env, fmt};\nasync fn f() {}"),
        ("wire/mod.rs", "use std::io;\nfn f() { io::stdin() }"),
        ("service/mod.rs", "use std::env;"),
    ]);
    assert_eq!(
        impure(&tree),
        [
            "src/domain/mod.rs:2: `async` in `domain`",
            "src/domain/mod.rs:1: `std::env` in `domain`",
            "src/wire/mod.rs:2: `std::io::stdin` in `wire`",
        ]
    );
}
