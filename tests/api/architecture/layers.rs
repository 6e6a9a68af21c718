//! Imports point down, from room to room.

use super::fail_on;
use super::imports::{Item, Tree};
use super::source::{Source, is_word};

/// From the top: a room may use the rooms below it.
const ROOMS: [&str; 9] =
    ["cli", "http", "delivery", "service", "postgres", "repository", "keyring", "wire", "domain"];
/// Rooms that all rooms but the pure ones may use.
const BASE: [&str; 4] = ["config", "telemetry", "metrics", "clock"];
pub const PURE: [&str; 2] = ["wire", "domain"];
/// Not in the table, but in the design.
const NEVER: [(&str, &str); 2] = [("cli", "repository"), ("http", "repository")];
/// The composition root opens the pool and hands it down. Each of its files may use these paths of
/// `repository` and `sqlx`, and no others.
const COMPOSITION_ROOT: [(&str, &[&str]); 3] = [
    (
        "src/cli/application.rs",
        &[
            "repository::Pool",
            "repository::app_notifications",
            "repository::migrations::MigrationList",
        ],
    ),
    ("src/cli/database.rs", &["repository::Pool", "repository::connections::pool"]),
    (
        "src/cli/external_database.rs",
        &["repository::Pool", "repository::connections::pool", "sqlx::postgres::PgConnectOptions"],
    ),
];

/// Whether the composition root needs this path in this file.
pub fn is_composition(source: &Source, path: &[String]) -> bool {
    COMPOSITION_ROOT.iter().any(|(file, allowed)| {
        source.name == *file && allowed.iter().any(|allowed| begins_with(path, allowed))
    })
}

/// Whether a path is `above` or below it.
pub fn begins_with(path: &[String], above: &str) -> bool {
    let mut path = path.iter();
    above.split("::").all(|part| path.next().is_some_and(|name| name == part))
}

/// The room of a file; empty for the crate's root.
pub fn room(source: &Source) -> &str {
    source.module.first().map_or("", String::as_str)
}

/// One text for each mistake: the file, the line and the rule.
pub fn in_files(mistakes: Vec<(String, String)>) -> Vec<String> {
    mistakes.into_iter().map(|(name, text)| format!("{name}:{text}")).collect()
}

/// The file of each mistake, and the line and the rule that it breaks.
fn upward(tree: &Tree) -> Vec<(String, String)> {
    let floor = |room: &str| ROOMS.iter().position(|known| *known == room);
    let is_known = |room: &str| floor(room).is_some() || BASE.contains(&room);
    let mut mistakes = Vec::new();
    for (index, source) in tree.sources.iter().enumerate() {
        let own = room(source);
        if own.is_empty() {
            continue;
        }
        if !is_known(own) {
            let text = format!("1: no room is called `{own}`: give it a place in the table");
            mistakes.push((source.name.clone(), text));
        }
        for import in tree.imports(index) {
            let used = room(&tree.sources[import.target]);
            if used == own || !is_known(used) {
                continue;
            }
            let wrong = match (floor(own), floor(used)) {
                _ if NEVER.contains(&(own, used)) => !is_composition(source, &import.path),
                (Some(own), Some(used)) => used < own,
                (Some(_), None) => PURE.contains(&own),
                (None, Some(_)) => true,
                (None, None) => false,
            };
            if wrong {
                let (line, path) = (source.line(import.at), import.path.join("::"));
                let file = &tree.sources[import.target].name;
                let text = format!("{line}: `{own}` may not use `{path}` of {file}");
                mistakes.push((source.name.clone(), text));
            }
        }
    }
    mistakes
}

/// A text for each public `type` that hides a type of `repository` from the rule above.
fn hidden_rows(tree: &Tree) -> Vec<String> {
    let mut mistakes = Vec::new();
    for (index, source) in tree.sources.iter().enumerate() {
        if room(source) == "repository" {
            continue;
        }
        for at in source.all("type ").filter(|at| source.is_public(*at)) {
            let declaration = source.code[at..].split(';').next().unwrap_or_default();
            for name in declaration.split(|c| !is_word(c) && c != ':') {
                let path: Vec<String> = name.split("::").map(str::to_owned).collect();
                let item = tree.item(index, &path);
                if let Item::Own(file, _) = item
                    && room(&tree.sources[file]) == "repository"
                {
                    let (file, line) = (&source.name, source.line(at));
                    mistakes.push(format!("{file}:{line}: an alias of `{name}` of `repository`"));
                }
            }
        }
    }
    mistakes
}

/// A text for each mistake in the roots of the library and the program, which belong to no room.
/// `src/lib.rs` only lists the rooms, and `src/main.rs` only calls `cli`.
fn roots(tree: &Tree) -> Vec<String> {
    const MAIN: [&str; 3] = ["muster::cli", "std::process::ExitCode", "mimalloc::MiMalloc"];
    let is_module =
        |item: &str| item.strip_prefix("pub mod ").is_some_and(|name| name.chars().all(is_word));
    let mut mistakes = Vec::new();
    for (index, source) in tree.sources.iter().enumerate() {
        let name = &source.name;
        if name == "src/lib.rs" {
            let items = source.code.split(';').map(str::trim);
            for item in items.filter(|item| !item.is_empty() && !is_module(item)) {
                mistakes.push(format!("{name}:1: only `pub mod …;`, not `{item}`"));
            }
        } else if name == "src/main.rs" {
            let own = tree.imports(index).into_iter().map(|import| import.path);
            let foreign = tree.foreign(index).into_iter().map(|(_, path)| path);
            let is_allowed = |path: &[String]| MAIN.iter().any(|main| begins_with(path, main));
            for path in own.chain(foreign).filter(|path| !is_allowed(path)) {
                mistakes.push(format!("{name}:1: may not use `{}`", path.join("::")));
            }
            for at in source.all("mod ") {
                mistakes.push(format!("{name}:{}: a module of its own", source.line(at)));
            }
        }
    }
    mistakes
}

#[test]
fn imports_point_down() {
    fail_on(&in_files(upward(&Tree::read("src"))));
}

#[test]
fn no_public_alias_hides_a_type_of_the_repository() {
    fail_on(&hidden_rows(&Tree::read("src")));
}

#[test]
fn public_alias_of_a_type_of_the_repository_is_found() {
    let tree = Tree::planted(&[
        (
            "service/mod.rs",
            "use crate::repository::Page;\npub type Pages = Vec<Page>;\n\
             pub type Sheets = Vec<crate::repository::Page>;\ntype Own = Page;\n\
             pub type Numbers = Vec<u8>;",
        ),
        ("repository/mod.rs", "pub struct Page;\npub type Rows = Vec<Page>;"),
    ]);
    assert_eq!(
        hidden_rows(&tree),
        [
            "src/service/mod.rs:2: an alias of `Page` of `repository`",
            "src/service/mod.rs:3: an alias of `crate::repository::Page` of `repository`",
        ]
    );
}

#[test]
fn roots_hold_no_code_of_their_own() {
    fail_on(&roots(&Tree::read("src")));
}

#[test]
fn code_in_a_root_is_found() {
    let tree = Tree::planted(&[
        ("lib.rs", "pub mod cli;\npub use sqlx as db;\npub fn now() { SystemTime::now() }"),
        ("main.rs", "use muster::repository;\nmod attic;\nfn main() { muster::cli::main() }"),
        ("repository/mod.rs", ""),
    ]);
    assert_eq!(
        roots(&tree),
        [
            "src/lib.rs:1: only `pub mod …;`, not `pub use sqlx as db`",
            "src/lib.rs:1: only `pub mod …;`, not `pub fn now() { SystemTime::now() }`",
            "src/main.rs:1: may not use `muster::repository`",
            "src/main.rs:2: a module of its own",
        ]
    );
}

#[test]
fn an_import_that_points_up_is_found() {
    let tree = Tree::planted(&[
        ("domain/mod.rs", "use crate::service::Service;"),
        (
            "service/mod.rs",
            "use crate::{domain::App, repository::{self as store}};\npub struct Service;",
        ),
        ("repository/mod.rs", ""),
        ("config.rs", "use super::service::Service;"),
        ("attic.rs", ""),
    ]);
    let found: Vec<String> =
        upward(&tree).into_iter().map(|(file, text)| file + ":" + &text).collect();
    assert_eq!(
        found,
        [
            "src/domain/mod.rs:1: `domain` may not use `service::Service` of src/service/mod.rs",
            "src/config.rs:1: `config` may not use `service::Service` of src/service/mod.rs",
            "src/attic.rs:1: no room is called `attic`: give it a place in the table",
        ]
    );
}

#[test]
fn http_does_not_reach_the_repository_through_a_re_export() {
    let tree = Tree::planted(&[
        ("http/list.rs", "use crate::service::Page;"),
        ("cli/list.rs", "use crate::repository;"),
        ("service/mod.rs", "pub use crate::repository::Page;"),
        ("repository/mod.rs", "pub struct Page;"),
    ]);
    let found: Vec<String> = upward(&tree).into_iter().map(|(file, _)| file).collect();
    assert_eq!(found, ["src/http/list.rs", "src/cli/list.rs"]);
}

#[test]
fn a_path_without_a_use_declaration_is_an_import() {
    let tree = Tree::planted(&[
        ("http/mod.rs", "mod list;"),
        ("http/list.rs", "fn f() -> Vec<crate::repository::Page> { crate::repository::list() }"),
        ("service/mod.rs", "fn f() { self::super::http::list::f() }"),
        ("repository/mod.rs", "pub struct Page;\npub fn list() {}"),
    ]);
    let found: Vec<String> = upward(&tree).into_iter().map(|(file, _)| file).collect();
    assert_eq!(found, ["src/http/list.rs", "src/http/list.rs", "src/service/mod.rs"]);
}

#[test]
fn the_composition_root_uses_only_the_listed_paths() {
    let tree = Tree::planted(&[
        (
            "cli/database.rs",
            "use crate::repository::{Pool, connections::pool};\nfn f() { pool::connect() }",
        ),
        ("cli/external_database.rs", "use crate::repository::{Pool, apps};"),
        ("repository/mod.rs", "mod apps;\nmod connections;\npub struct Pool;"),
        ("repository/apps.rs", ""),
        ("repository/connections/mod.rs", "pub mod pool;"),
        ("repository/connections/pool.rs", "pub fn connect() {}"),
    ]);
    let found: Vec<String> = in_files(upward(&tree));
    let expected = "src/cli/external_database.rs:1: `cli` may not use `repository::apps` of src/repository/apps.rs";
    assert_eq!(found, [expected]);
}

#[test]
fn a_file_is_not_a_unit_test_by_its_name() {
    let tests = "use crate::service::Service;";
    let tree = Tree::planted(&[
        ("wire/mod.rs", "#[cfg(test)]\nmod tests;"),
        ("wire/tests.rs", tests),
        ("wire/tests/more.rs", tests),
        ("domain/mod.rs", "mod tests;"),
        ("domain/tests.rs", tests),
        ("service/mod.rs", "pub struct Service;"),
    ]);
    let found: Vec<String> = upward(&tree).into_iter().map(|(file, _)| file).collect();
    assert_eq!(found, ["src/domain/tests.rs"]);
}
