//! Imports point down, from room to room.

use super::fail_on;
use super::imports::Tree;
use super::source::Source;

/// From the top: a room may use the rooms below it.
const ROOMS: [&str; 9] =
    ["cli", "http", "delivery", "service", "postgres", "repository", "keyring", "wire", "domain"];
/// Rooms that all rooms but the pure ones may use.
const BASE: [&str; 4] = ["config", "telemetry", "metrics", "clock"];
pub const PURE: [&str; 2] = ["wire", "domain"];
/// Not in the table, but in the design.
const NEVER: [(&str, &str); 2] = [("cli", "repository"), ("http", "repository")];
/// The composition root opens the pool and hands it down, so it may use every room and `sqlx`.
pub const COMPOSITION_ROOT: [&str; 3] =
    ["src/cli/application.rs", "src/cli/database.rs", "src/cli/callbacks.rs"];
/// The APIs, which must not import each other.
const APIS: [&str; 3] = ["cgi", "v1", "console"];
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
            let is_root = COMPOSITION_ROOT.contains(&source.name.as_str());
            let wrong = match (floor(own), floor(used)) {
                _ if NEVER.contains(&(own, used)) => !is_root,
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

fn sideways(tree: &Tree) -> Vec<(String, String)> {
    let api = |source: &Source| {
        let name = source.module.get(1).filter(|_| source.module[0] == "http")?;
        APIS.into_iter().find(|api| api == name)
    };
    let mut mistakes = Vec::new();
    for (index, source) in tree.sources.iter().enumerate() {
        let Some(own) = api(source) else { continue };
        for import in tree.imports(index) {
            if api(&tree.sources[import.target]).is_some_and(|other| other != own) {
                let (line, path) = (source.line(import.at), import.path.join("::"));
                let text = format!("{line}: `{own}` may not use `{path}`");
                mistakes.push((source.name.clone(), text));
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
fn apis_do_not_import_each_other() {
    fail_on(&in_files(sideways(&Tree::read("src"))));
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
        ("cli/database.rs", "use crate::repository::Page;"),
        ("service/mod.rs", "pub use crate::repository::Page;"),
        ("repository/mod.rs", "pub struct Page;"),
    ]);
    let found: Vec<String> = upward(&tree).into_iter().map(|(file, _)| file).collect();
    assert_eq!(found, ["src/http/list.rs", "src/cli/list.rs"]);
}

#[test]
fn an_import_from_another_api_is_found() {
    let tree = Tree::planted(&[
        ("http/v1/mod.rs", "use super::cgi::Fault;\nuse super::Shared;"),
        ("http/cgi/mod.rs", "pub struct Fault;"),
        ("http/mod.rs", "pub struct Shared;"),
    ]);
    assert_eq!(sideways(&tree).len(), 1);
}
