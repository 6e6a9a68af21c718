//! Constructs that would hide an import from the other rules are not used outside of unit tests.

use super::fail_on;
use super::imports::Tree;
use super::source::is_word;

fn hidden(tree: &Tree) -> Vec<String> {
    let mut mistakes = Vec::new();
    for (index, source) in tree.sources.iter().enumerate() {
        let globs = tree.uses(index).iter().filter(|used| used.alias == "*");
        let globs = globs.map(|used| (used.at, "an import of all names: name each one"));
        let crates = source.all("extern crate");
        let crates = crates.map(|at| (at, "`extern crate`: a path names the crate"));
        let paths = source.code.match_indices("#[path");
        let paths = paths.map(|(at, _)| (at, "`#[path]`: a module has the name of its file"));
        let included = source.all("include!");
        let included = included.map(|at| (at, "`include!`: a module has a file of its own"));
        let inline = source.all("mod ").filter(|at| {
            let rest = source.code[at + "mod ".len()..].trim_start_matches(is_word);
            rest.trim_start().starts_with('{')
        });
        let inline = inline.map(|at| (at, "an inline module: a module has a file of its own"));
        for (at, text) in globs.chain(crates).chain(paths).chain(included).chain(inline) {
            mistakes.push(format!("{}:{}: {text}", source.name, source.line(at)));
        }
    }
    mistakes
}

#[test]
fn each_import_can_be_followed() {
    fail_on(&hidden(&Tree::read("src")));
}

#[test]
fn hidden_imports_are_found() {
    let tree = Tree::planted(&[
        ("service/mod.rs", "use crate::{domain::App, http::*};"),
        ("service/a.rs", "fn f() {}\npub use super::*;"),
        ("service/b.rs", "extern crate sqlx as s;"),
        ("service/c.rs", "#[path = \"../cli/args.rs\"]\nmod args;"),
        ("service/d.rs", "include!(\"../cli/args.rs\");"),
        ("service/e.rs", "pub mod inner {\n    use super::super::super::cli::Args;\n}"),
        (
            "service/f.rs",
            "mod part;\nfn f() { include_str!(\"a\") }\n#[cfg(test)]\nmod tests { use super::*; }",
        ),
    ]);
    let found = hidden(&tree);
    let places = [
        "src/service/mod.rs:1: ",
        "src/service/a.rs:2: ",
        "src/service/b.rs:1: ",
        "src/service/c.rs:1: ",
        "src/service/d.rs:1: ",
        "src/service/e.rs:1: ",
    ];
    assert_eq!(found.len(), places.len(), "{found:?}");
    for (text, place) in found.iter().zip(places) {
        assert!(text.starts_with(place), "{text}");
    }
}
