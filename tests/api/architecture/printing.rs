//! `src/cli/output.rs` alone writes to standard output. It and the log write to standard error.
//!
//! Both may be closed or full, which the macros of the standard library answer with a panic. A server
//! would end then, and leave its PostgreSQL alone.

use super::fail_on;
use super::imports::Tree;
use super::layers::begins_with;

/// Words that print, or that end the program if printing fails.
const WORDS: [&str; 8] = [
    "print!",
    "println!",
    "eprint!",
    "eprintln!",
    "dbg!",
    "print_help",
    "print_long_help",
    "Cli::parse(",
];

/// Paths to the two, and the files that may name them.
const PATHS: [(&str, &[&str]); 9] = [
    ("std::io::stdout", &["src/cli/output.rs"]),
    ("std::io::Stdout", &["src/cli/output.rs"]),
    ("std::io::stderr", &["src/cli/output.rs", "src/telemetry/log_writer.rs"]),
    ("std::io::Stderr", &["src/cli/output.rs", "src/telemetry/log_writer.rs"]),
    ("tokio::io::stdout", &[]),
    ("tokio::io::stderr", &[]),
    ("rustix::stdio::stdout", &[]),
    ("rustix::stdio::stderr", &[]),
    ("std::os::fd::FromRawFd", &[]),
];

fn mistakes(tree: &Tree) -> Vec<String> {
    let mut mistakes = Vec::new();
    for (index, source) in tree.sources.iter().enumerate() {
        let words = WORDS.into_iter().flat_map(|word| source.all(word).map(move |at| (at, word)));
        let foreign = tree.foreign(index);
        let paths = foreign.iter().filter_map(|(at, path)| {
            let (printer, files) = PATHS.iter().find(|(above, _)| begins_with(path, above))?;
            (!files.contains(&source.name.as_str())).then_some((*at, *printer))
        });
        for (at, printer) in words.chain(paths) {
            let (name, line) = (&source.name, source.line(at));
            mistakes.push(format!("{name}:{line}: `{printer}`: use `src/cli/output.rs`"));
        }
    }
    mistakes
}

/// Errors as values of the log, which then has the texts of their causes, repetitions included.
const RAW_ERRORS: [&str; 2] = ["as &dyn std::error::Error", "&dyn std::error::Error = "];

fn raw_errors(tree: &Tree) -> Vec<String> {
    let mut mistakes = Vec::new();
    for source in &tree.sources {
        for at in RAW_ERRORS.into_iter().flat_map(|word| source.all(word)) {
            let (name, line) = (&source.name, source.line(at));
            mistakes.push(format!("{name}:{line}: use `telemetry::cause_chain`"));
        }
    }
    mistakes
}

#[test]
fn logged_errors_have_each_cause_once() {
    fail_on(&raw_errors(&Tree::read("src")));
}

#[test]
fn raw_error_in_a_log_line_is_found() {
    let tree = Tree::planted(&[
        ("service/a.rs", "fn f() {\n    warn!(error = &error as &dyn std::error::Error, \"a\") }"),
        ("service/b.rs", "fn f() { let error: &dyn std::error::Error = &error; }"),
        ("service/c.rs", "fn f(error: &dyn std::error::Error) { cause_chain(error) }"),
    ]);
    let found = raw_errors(&tree);
    let found: Vec<_> =
        found.iter().filter_map(|one| one.strip_suffix(": use `telemetry::cause_chain`")).collect();
    assert_eq!(found, ["src/service/a.rs:2", "src/service/b.rs:1"]);
}

#[test]
fn one_file_prints() {
    fail_on(&mistakes(&Tree::read("src")));
}

#[test]
fn printing_elsewhere_is_found() {
    let tree = Tree::planted(&[
        ("cli/output.rs", "fn f() { std::io::stdout(); std::io::stderr(); }"),
        ("cli/app.rs", "fn f() {\n    println!(\"a\"); eprint!(\"b\") }"),
        ("cli/mod.rs", "fn f() { Cli::parse(); Cli::command().print_help() }"),
        ("service/a.rs", "use std::io;\nfn f(c: Child) { io::stdout(); c.stdout.take() }"),
        ("service/b.rs", "use std::io::{self, stderr as log};\nfn f() { log() }"),
        ("service/c.rs", "fn f() { Command::new(\"a\").stdout(Stdio::piped()) }"),
        ("telemetry/log_writer.rs", "fn f() { std::io::stderr(); std::io::stdout() }"),
    ]);
    let found = mistakes(&tree);
    let found: Vec<_> =
        found.iter().filter_map(|one| one.strip_suffix(": use `src/cli/output.rs`")).collect();
    assert_eq!(
        found,
        [
            "src/cli/app.rs:2: `println!`",
            "src/cli/app.rs:2: `eprint!`",
            "src/cli/mod.rs:1: `print_help`",
            "src/cli/mod.rs:1: `Cli::parse(`",
            "src/service/a.rs:2: `std::io::stdout`",
            "src/service/b.rs:1: `std::io::stderr`",
            "src/telemetry/log_writer.rs:1: `std::io::stdout`",
        ]
    );
}
