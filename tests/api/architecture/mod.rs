//! Rules for the sources: which room may import which, no import cycles, unique type names, and one
//! place each for SQL, HTTP and the rules of sessions. `src/lib.rs` lists the rooms. `storage` has
//! the one rule for the sources of the tests.
//!
//! The tests read text, not syntax trees, so they need no parser: comments, literals and unit tests
//! are blanked out first, then paths are searched and resolved. They rely on the form that `cargo
//! fmt` writes. A path that a macro puts together from its parts is missed. Each rule has its own
//! tests with sources that break it.

mod constructs;
mod crates;
mod cycles;
mod http_layers;
mod imports;
mod layers;
mod names;
mod source;
mod storage;

use std::fmt::Write as _;

use self::source::Source;

/// Each longer file has a reason.
const LONGEST: usize = 300;
const LONG_FOR_A_REASON: [(&str, &str); 1] =
    [("src/wire/object.rs", "one lenient reader of JSON, field by field")];

/// Fails with all mistakes, one on each line.
fn fail_on(mistakes: &[String]) {
    let mut text = String::new();
    for mistake in mistakes {
        writeln!(text, "  {mistake}").unwrap();
    }
    assert!(mistakes.is_empty(), "the sources break rules of the architecture:\n{text}");
}

#[test]
fn files_are_short() {
    let mut mistakes = Vec::new();
    for source in source::read("src") {
        let reason = LONG_FOR_A_REASON.iter().find(|(name, _)| *name == source.name);
        let (name, lines) = (&source.name, source.lines);
        match (lines > LONGEST, reason) {
            (true, None) => mistakes
                .push(format!("{name}:{LONGEST}: {lines} lines without its tests: divide it")),
            (false, Some(_)) => mistakes
                .push(format!("{name}:1: {lines} lines: remove it from the list of long files")),
            _ => {}
        }
    }
    fail_on(&mistakes);
}

#[test]
fn raw_and_escaped_literals_are_no_code() {
    let text = "fn f() { br##\"crate::a\"# crate::b\"##; '\\''; crate::c(); r\"\\\"; crate::d() }";
    let source = Source::new("src", "src/wire/query.rs", text);
    assert_eq!(source.all("crate").count(), 2, "{}", source.code);
}

#[test]
fn comments_literals_and_unit_tests_are_no_code() {
    let text = "// crate::cli\nuse crate::{domain::App, wire::{Key, self}};\n\
                fn f() { \"crate::cli\"; r#\"crate::cli\"#; '\"'; super::super::rest::f() }\n\
                #[cfg(test)]\nmod tests { use crate::repository; }\n\
                fn g() { crate::clock::now() }\n";
    let source = Source::new("src", "src/http/cgi/call.rs", text);
    let found: Vec<usize> = source.all("crate").map(|at| source.line(at)).collect();
    assert_eq!((found, source.all("super").count()), (vec![2, 6], 2));
    assert_eq!((source.code.len(), source.lines), (text.len(), 6));
    assert_eq!(source.module, ["http", "cgi", "call"]);
}
