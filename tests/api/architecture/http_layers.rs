//! Imports point down inside the room `http`, too.

use super::fail_on;
use super::imports::Tree;
use super::layers::in_files;
use super::source::Source;

/// From the top: a module may use the modules of the rows below it, and none of its own row.
const ROWS: [&[&str]; 9] = [
    &["application"],
    &["cgi", "v1", "health", "metrics_server", "start_page"],
    &["endpoint", "services"],
    &["auth"],
    &["middleware"],
    &["body"],
    &["transport"],
    &["shared", "uri"],
    &["options"],
];

/// The module of `http` that a file belongs to. `src/http/mod.rs` belongs to no module.
fn part(source: &Source) -> Option<&str> {
    match &source.module[..] {
        [room, part, ..] if room == "http" => Some(part),
        _ => None,
    }
}

/// The file of each mistake, and the line and the rule that it breaks.
fn upward(tree: &Tree) -> Vec<(String, String)> {
    let row = |part: &str| ROWS.iter().position(|row| row.contains(&part));
    let mut mistakes = Vec::new();
    for (index, source) in tree.sources.iter().enumerate() {
        let Some(own) = part(source) else { continue };
        let Some(own_row) = row(own) else {
            let text = format!("1: no part of `http` is called `{own}`: give it a place");
            mistakes.push((source.name.clone(), text));
            continue;
        };
        for import in tree.imports(index) {
            let Some(used) = part(&tree.sources[import.target]) else { continue };
            if used != own && row(used).is_some_and(|used_row| used_row <= own_row) {
                let (line, path) = (source.line(import.at), import.path.join("::"));
                let file = &tree.sources[import.target].name;
                let text = format!("{line}: `{own}` may not use `{path}` of {file}");
                mistakes.push((source.name.clone(), text));
            }
        }
    }
    mistakes
}

#[test]
fn imports_inside_http_point_down() {
    fail_on(&in_files(upward(&Tree::read("src"))));
}

/// The files of the crate that call a method, once for each call.
fn callers<'a>(tree: &'a Tree, call: &'a str) -> Vec<&'a str> {
    let sources = tree.sources.iter();
    sources.flat_map(|source| source.all(call).map(|_| source.name.as_str())).collect()
}

#[test]
fn session_and_app_reach_the_context_in_one_place_of_each_api() {
    let tree = Tree::read("src");
    // `request_context.rs` declares the methods.
    assert_eq!(
        callers(&tree, "set_session("),
        [
            "src/http/cgi/base_request.rs",
            "src/http/middleware/request_context.rs",
            "src/http/v1/extract/request_record.rs",
        ]
    );
    // Both APIs authenticate in the same file.
    for call in ["set_app(", "set_enterprise("] {
        let expected = ["src/http/auth/authenticate.rs", "src/http/middleware/request_context.rs"];
        assert_eq!(callers(&tree, call), expected);
    }
    // An extractor knows the session that a path names, and a response that of a create.
    let mut files = callers(&tree, "record_session(");
    files.retain(|file| file.starts_with("src/http/v1/"));
    files.dedup();
    assert_eq!(
        files,
        [
            "src/http/v1/extract/path.rs",
            "src/http/v1/extract/request_record.rs",
            "src/http/v1/render/response.rs",
        ]
    );
    // The type of a response about a session has a private field, and the routes ask for the type.
    let routes =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/cgi/mod.rs"))
            .unwrap();
    let about_sessions: Vec<&str> =
        routes.lines().filter(|line| line.contains("\"/cgi/session/")).collect();
    assert_eq!(about_sessions.len(), 3);
    for line in about_sessions {
        assert!(line.trim().starts_with(".service(session_endpoint("), "{line}");
    }
}

/// Each file of the room that is not allowed its import.
fn found(sources: &[(&str, &str)]) -> Vec<String> {
    const TARGETS: [(&str, &str); 8] = [
        ("http/mod.rs", "pub use cgi::CgiError;\npub use transport::Tls;"),
        ("http/cgi/mod.rs", "pub struct CgiError;"),
        ("http/v1/mod.rs", "pub struct Problem;"),
        ("http/auth/mod.rs", "pub struct RequestAuth;"),
        ("http/middleware/mod.rs", "pub struct RequestContext;"),
        ("http/transport/mod.rs", "pub struct Tls;"),
        ("http/shared/mod.rs", "pub struct ErrorText;"),
        ("http/health.rs", "pub fn ready() {}"),
    ];
    let tree = Tree::planted(&[&TARGETS[..], sources].concat());
    upward(&tree).into_iter().map(|(file, _)| file).collect()
}

#[test]
fn an_import_from_another_api_is_found() {
    let found = found(&[
        ("http/v1/problem.rs", "use crate::http::cgi::CgiError;"),
        ("http/v1/re_exported.rs", "use crate::http::{CgiError, Tls};"),
        ("http/v1/body.rs", "use crate::http::shared::ErrorText;"),
        ("http/cgi/error.rs", "fn f() { super::super::v1::Problem::new() }"),
        ("http/cgi/health.rs", "use crate::http::health;"),
        ("http/health/live.rs", "use crate::http::v1;"),
    ]);
    assert_eq!(
        found,
        [
            "src/http/v1/problem.rs",
            "src/http/v1/re_exported.rs",
            "src/http/cgi/error.rs",
            "src/http/cgi/health.rs",
            "src/http/health/live.rs",
        ]
    );
}

#[test]
fn an_import_from_a_higher_part_of_http_is_found() {
    let found = found(&[
        ("http/transport/tls.rs", "use crate::http::v1::Problem;"),
        ("http/transport/http2.rs", "use crate::http::middleware::RequestContext;"),
        ("http/middleware/log.rs", "use crate::http::auth::RequestAuth;"),
        ("http/middleware/pipeline.rs", "use crate::http::transport::Tls;"),
        ("http/auth/limit.rs", "use crate::http::cgi::CgiError;"),
        ("http/auth/check.rs", "use crate::http::middleware::RequestContext;"),
        ("http/shared/render.rs", "fn f() { crate::http::transport::Tls::new() }"),
        ("http/attic.rs", ""),
    ]);
    assert_eq!(
        found,
        [
            "src/http/transport/tls.rs",
            "src/http/transport/http2.rs",
            "src/http/middleware/log.rs",
            "src/http/auth/limit.rs",
            "src/http/shared/render.rs",
            "src/http/attic.rs",
        ]
    );
}
