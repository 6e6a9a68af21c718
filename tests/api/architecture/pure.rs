//! The rooms `domain` and `wire` have no I/O, no async, no clock and no shared state.
//!
//! Random numbers are allowed: new ids, keys and nonces need them.

use super::fail_on;
use super::imports::Tree;
use super::layers::{PURE, begins_with, room};

/// A text for each use of I/O, async, time or shared state in a pure room.
fn impure(tree: &Tree) -> Vec<String> {
    const WORDS: [&str; 11] = [
        "async",
        "Future",
        "SystemTime",
        "Instant",
        "UNIX_EPOCH",
        "thread_local!",
        "print!",
        "println!",
        "eprint!",
        "eprintln!",
        "dbg!",
    ];
    // `std::path` can ask the file system, and `std::sync` holds shared state.
    const PATHS: [&str; 8] = [
        "std::env",
        "std::fs",
        "std::io",
        "std::net",
        "std::path",
        "std::process",
        "std::sync",
        "std::thread",
    ];
    let mut mistakes = Vec::new();
    for (index, source) in tree.sources.iter().enumerate() {
        if !PURE.contains(&room(source)) {
            continue;
        }
        let words = WORDS.into_iter().flat_map(|word| source.all(word).map(move |at| (at, word)));
        let foreign = tree.foreign(index);
        let paths = foreign.iter().filter_map(|(at, path)| {
            let impure = PATHS.into_iter().find(|impure| begins_with(path, impure))?;
            Some((*at, impure))
        });
        for (at, impure) in words.chain(paths) {
            let (name, line) = (&source.name, source.line(at));
            mistakes.push(format!("{name}:{line}: `{impure}` in `{}`", room(source)));
        }
    }
    mistakes
}

#[test]
fn pure_rooms_have_no_io() {
    fail_on(&impure(&Tree::read("src")));
}

#[test]
fn io_in_a_pure_room_is_found() {
    let tree = Tree::planted(&[
        ("domain/mod.rs", "use std::{env, fmt};\nasync fn f() {}"),
        ("domain/later.rs", "fn f() -> impl Future<Output = u8> {}"),
        ("domain/time.rs", "fn f() { UNIX_EPOCH.elapsed(); println!(\"{}\", 1) }"),
        ("domain/state.rs", "use std::sync::Mutex;\nstatic LAST: Mutex<u8> = Mutex::new(0);"),
        ("wire/mod.rs", "use std::io;\nfn f() { io::stdout() }"),
        ("wire/file.rs", "fn f(path: &std::path::Path) -> bool { path.exists() }"),
        ("service/mod.rs", "use std::env;"),
    ]);
    assert_eq!(
        impure(&tree),
        [
            "src/domain/mod.rs:2: `async` in `domain`",
            "src/domain/mod.rs:1: `std::env` in `domain`",
            "src/domain/later.rs:1: `Future` in `domain`",
            "src/domain/time.rs:1: `UNIX_EPOCH` in `domain`",
            "src/domain/time.rs:1: `println!` in `domain`",
            "src/domain/state.rs:1: `std::sync` in `domain`",
            "src/domain/state.rs:2: `std::sync` in `domain`",
            "src/wire/mod.rs:1: `std::io` in `wire`",
            "src/wire/mod.rs:2: `std::io` in `wire`",
            "src/wire/file.rs:1: `std::path` in `wire`",
        ]
    );
}
