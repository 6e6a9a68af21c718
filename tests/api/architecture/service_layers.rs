//! Imports point down inside the room `service`, too.

use super::fail_on;
use super::imports::Tree;
use super::layers::{begins_with, in_files};
use super::source::Source;

/// From the top: a module may use the modules of its own row and of the rows below it. A path of two
/// parts takes a file out of its folder, into another row.
const ROWS: [&[&str]; 5] = [
    // The use cases of operators.
    &["admin"],
    // The use cases of apps, and the tasks that run beside them.
    &[
        "access",
        "audit_retention",
        "background_work",
        "comparison",
        "feed",
        "history",
        "idempotency",
        "list",
        "metrics_source",
        "readiness",
        "sessions",
    ],
    // Group commit.
    &["batching"],
    // The state in memory that all requests share.
    &[
        "app_directory",
        "background_threads",
        "change_notifier",
        "comparison_slots",
        "feed::consumer_waits",
        "feed::hub",
        "feed::hub_index",
        "feed::hub_queue",
        "feed::hub_roles",
        "pool_admission",
        "replay_memory",
        "session_cache",
        "work_turns",
    ],
    // Values, errors, and parts without state.
    &[
        "app_context",
        "batching::wait_estimator",
        "cached_session",
        "caller",
        "cursor_bytes",
        "database_identity",
        "database_servers",
        "error",
        "key_entry",
        "key_expiry",
        "owner_permits",
        "pruner",
    ],
];

/// The row of a file of `service`: that of the longest path. `None` also for `src/service/mod.rs`,
/// which belongs to no row.
fn row(source: &Source) -> Option<usize> {
    let [room, inner @ ..] = &source.module[..] else { return None };
    if room != "service" {
        return None;
    }
    let rows = ROWS.iter().enumerate();
    let all = rows.flat_map(|(row, paths)| paths.iter().map(move |path| (row, *path)));
    all.filter(|(_, path)| begins_with(inner, path))
        .max_by_key(|(_, path)| path.len())
        .map(|(row, _)| row)
}

/// The file of each mistake, and the line and the rule that it breaks.
fn upward(tree: &Tree) -> Vec<(String, String)> {
    let mut mistakes = Vec::new();
    for (index, source) in tree.sources.iter().enumerate() {
        let is_inner = source.module.len() > 1 && source.module[0] == "service";
        let Some(own_row) = row(source) else {
            if is_inner {
                let text = format!("1: no row has `{}`: give it a place", source.module.join("::"));
                mistakes.push((source.name.clone(), text));
            }
            continue;
        };
        for import in tree.imports(index) {
            let used = &tree.sources[import.target];
            if row(used).is_some_and(|used_row| used_row < own_row) {
                let (line, path) = (source.line(import.at), import.path.join("::"));
                let text = format!("{line}: may not use `{path}` of {}", used.name);
                mistakes.push((source.name.clone(), text));
            }
        }
    }
    mistakes
}

#[test]
fn imports_inside_service_point_down() {
    fail_on(&in_files(upward(&Tree::read("src"))));
}

#[test]
fn each_path_of_the_table_names_a_file() {
    let tree = Tree::read("src");
    for path in ROWS.concat() {
        let module: Vec<&str> = ["service"].into_iter().chain(path.split("::")).collect();
        assert!(tree.sources.iter().any(|source| source.module == module), "{path}");
    }
}

#[test]
fn an_import_from_a_higher_row_of_service_is_found() {
    let tree = Tree::planted(&[
        ("service/mod.rs", "mod sessions;\npub use sessions::Sessions;\npub use error::Error;"),
        ("service/sessions.rs", "use super::batching::Context;\npub struct Sessions;"),
        ("service/error.rs", "pub struct Error;"),
        ("service/admin/mod.rs", "use crate::service::{Error, Sessions};\npub struct Admin;"),
        ("service/feed/mod.rs", "use crate::service::Sessions;\npub mod hub;\npub struct Page;"),
        ("service/feed/hub.rs", "use super::Page;\npub struct Hub;"),
        ("service/feed/hub_reader.rs", "use super::hub::Hub;\nuse crate::service::Sessions;"),
        ("service/batching/mod.rs", "use crate::service::feed::hub::Hub;\npub struct Context;"),
        ("service/batching/turns.rs", "use crate::service::Sessions;"),
        ("service/caller.rs", "fn f() { super::admin::Admin::new() }"),
        ("service/session_cache.rs", "use super::Error;"),
        ("service/attic.rs", ""),
    ]);
    let found: Vec<String> = upward(&tree).into_iter().map(|(file, _)| file).collect();
    assert_eq!(
        found,
        [
            "src/service/feed/hub.rs",
            "src/service/batching/turns.rs",
            "src/service/caller.rs",
            "src/service/attic.rs",
        ]
    );
}
