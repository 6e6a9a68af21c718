//! Rules for the sources: which room may import which, no import cycles, unique type names, and one
//! place each for SQL, HTTP and the rules of sessions. `src/lib.rs` lists the rooms. `storage` has
//! the one rule for the sources of the tests. `tables` compares the design with the
//! migrations, and `prose` reads comments and pages.
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
mod printing;
mod prose;
mod pure;
mod service_layers;
mod source;
mod storage;
mod tables;
mod written;

use std::fmt::Write as _;

use self::source::Source;

/// The lines of a file before its tests. Each longer file has a reason.
const MAX_LINES: usize = 300;
const LONG_FOR_A_REASON: [(&str, &str); 0] = [];

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
        match (lines > MAX_LINES, reason) {
            (true, None) => mistakes
                .push(format!("{name}:{MAX_LINES}: {lines} lines without its tests: divide it")),
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

#[test]
fn field_or_arm_of_unit_tests_ends_before_the_next_one() {
    let text = "struct A {\n#[cfg(test)]\na: crate::cli::A,\nb: crate::b::B,\n\
                #[cfg(test)]\npub c: crate::cli::A\n}\nfn f() { match 1 {\n\
                #[cfg(test)]\n0 => crate::cli::f(),\n1 => crate::b::f() } }\n\
                #[cfg(test)]\n#[inline]\nfn g<A, B>() -> Result<A, B> { crate::cli::f() }\n\
                fn h() { crate::b::f() }";
    let source = Source::new("src", "src/wire/query.rs", text);
    let found: Vec<usize> = source.all("crate").map(|at| source.line(at)).collect();
    assert_eq!(found, [4, 11, 15], "{}", source.code);
}

#[test]
fn path_in_a_literal_of_an_attribute_is_code() {
    let text = "#[serde(with = \"crate::http::view\", rename = \"crate\")]\nstruct A;\n\
                #[utoipa::path(path = \"/v1/crate::x\")]\nfn f() { g(\"crate::cli\") }";
    let source = Source::new("src", "src/wire/query.rs", text);
    assert_eq!(source.all("crate").collect::<Vec<_>>(), [16], "{}", source.code);
}
