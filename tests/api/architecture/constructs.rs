//! Constructs that would hide an import from the other rules are not used outside of unit tests.

use super::fail_on;
use super::imports::Tree;
use super::source::{self, Source, is_word};

/// A re-export of another crate would take the crate into every room.
const RE_EXPORTS: [(&str, &str); 1] = [("src/repository/mod.rs", "sqlx::PgConnection")];
/// Programs outside of `src` that consist of one file each, so they have no imports to follow.
const PROGRAMS: [&str; 2] = ["benches/load/benches", "fuzz/fuzz_targets"];

const WORDS: [(&str, &str); 6] = [
    ("extern crate", "`extern crate`: a path names the crate"),
    ("include!", "`include!`: a module has a file of its own"),
    ("macro_export", "`macro_export`: a path names the macro"),
    ("macro_use", "`macro_use`: a path names the macro"),
    ("cfg_attr", "`cfg_attr`: it can hide an attribute"),
    ("#[path", "`#[path]`: a module has the name of its file"),
];

fn hidden(tree: &Tree) -> Vec<String> {
    let mut mistakes = Vec::new();
    for (index, source) in tree.sources.iter().enumerate() {
        let globs = tree.uses(index).iter().filter(|used| used.alias == "*");
        let globs = globs.map(|used| (used.at, "an import of all names: name each one"));
        let re_exports = tree
            .re_exports(index)
            .filter(|(_, path)| !RE_EXPORTS.contains(&(&source.name, &path.join("::"))))
            .map(|(used, _)| (used.at, "a re-export of another crate"));
        let words = WORDS.iter().flat_map(|(word, text)| source.all(word).map(|at| (at, *text)));
        let raw = source.all("r#").filter(|at| !source.code[*at..].starts_with("r#type"));
        let raw = raw.map(|at| (at, "a raw identifier: only `r#type` is needed"));
        let inline = source.all("mod ").filter(|at| {
            let rest = source.code[at + "mod ".len()..].trim_start_matches(is_word);
            rest.trim_start().starts_with('{')
        });
        let inline = inline.map(|at| (at, "an inline module: a module has a file of its own"));
        for (at, text) in globs.chain(re_exports).chain(words).chain(raw).chain(inline) {
            mistakes.push(format!("{}:{}: {text}", source.name, source.line(at)));
        }
    }
    mistakes
}

/// A text for each module that a program of one file declares.
fn parts(sources: &[Source]) -> Vec<String> {
    let of = |source: &Source| {
        let at = source.all("mod ").chain(source.all("include!")).next()?;
        Some(format!("{}:{}: a program of one file", source.name, source.line(at)))
    };
    sources.iter().filter_map(of).collect()
}

#[test]
fn each_import_can_be_followed() {
    for folder in ["src", "fuzz/src"] {
        fail_on(&hidden(&Tree::read(folder)));
    }
}

#[test]
fn programs_outside_of_src_have_one_file() {
    let build = Source::new("", "build.rs", include_str!("../../../build.rs"));
    let programs = PROGRAMS.into_iter().flat_map(source::read).chain([build]);
    fail_on(&parts(&programs.collect::<Vec<_>>()));
}

#[test]
fn program_of_several_files_is_found() {
    let included = "fn main() { include!(\"src/cli/args.rs\") }";
    let sources = [
        Source::new("", "build.rs", "#[path = \"src/clock.rs\"]\nmod clock;"),
        Source::new("fuzz", "fuzz/query.rs", "// mod a;\nfn model() {}"),
        Source::new("fuzz", "fuzz/body.rs", included),
    ];
    let found = ["build.rs:2: a program of one file", "fuzz/body.rs:1: a program of one file"];
    assert_eq!(parts(&sources), found);
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
        ("service/g.rs", "#[macro_export]\nmacro_rules! deep { () => {} }"),
        ("service/h.rs", "#[macro_use]\nmod part;"),
        ("service/i.rs", "use crate::r#repository::apps;\nstruct A { r#type: u8 }"),
        ("service/j.rs", "#[cfg_attr(all(), path = \"../cli/args.rs\")]\nmod args;"),
        ("repository/mod.rs", "pub use sqlx as db;\npub use sqlx::PgConnection as Connection;"),
        ("repository/own.rs", "macro_rules! row { () => {} }\npub(super) use row;"),
        ("repository/l.rs", "pub(super) use ::sqlx::PgPool;\npub use sqlx;"),
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
        "src/service/g.rs:1: ",
        "src/service/h.rs:1: ",
        "src/service/i.rs:1: ",
        "src/service/j.rs:1: ",
        "src/repository/mod.rs:1: ",
        "src/repository/l.rs:1: ",
        "src/repository/l.rs:2: ",
    ];
    assert_eq!(found.len(), places.len(), "{found:?}");
    for (text, place) in found.iter().zip(places) {
        assert!(text.starts_with(place), "{text}");
    }
}
