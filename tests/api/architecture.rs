//! Holds the sources to the rules of the house: who may import whom, and where SQL, HTTP and the
//! rules of sessions live. The table is the one at the head of `src/lib.rs`.
//!
//! It reads text, not syntax trees: comments, literals and unit tests are blanked out first, then
//! paths are looked for. That misses what macros make, which is little, and needs no parser.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// From the top: a room may use those below it.
const ROOMS: [&str; 9] =
    ["cli", "http", "delivery", "service", "postgres", "repository", "keyring", "wire", "domain"];
/// What every room may use but the pure ones.
const BASE: [&str; 4] = ["config", "telemetry", "metrics", "clock"];
const PURE: [&str; 2] = ["wire", "domain"];
/// What the table does not say but design does.
const NEVER: [(&str, &str); 3] =
    [("http", "repository"), ("http", "postgres"), ("delivery", "postgres")];
/// The APIs, which know nothing of each other.
const APIS: [&str; 3] = ["youdu", "rest", "console"];

/// Which rooms may name which crates, or parts of `std`.
const CRATES: [(&str, &[&str]); 40] = [
    ("actix_web", &["http"]),
    ("actix_http", &["http"]),
    ("actix_rt", &["http"]),
    ("actix_server", &["http"]),
    ("actix_service", &["http"]),
    // What is stored is sealed in one place.
    ("chacha20poly1305", &["wire"]),
    ("flate2", &["http"]),
    ("form_urlencoded", &["http", "wire"]),
    ("governor", &["http"]),
    ("h2", &["http"]),
    ("humantime", &["cli", "http", "config"]),
    ("memchr", &["http", "wire"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_http", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("percent_encoding", &["http", "wire", "postgres"]),
    ("pin_project_lite", &["http"]),
    ("prometheus_client", &["metrics"]),
    ("serde_path_to_error", &["http"]),
    ("serde_urlencoded", &["http"]),
    ("tokio_rustls", &["http"]),
    ("tokio_util", &["http"]),
    ("utoipa", &["http"]),
    // The pool is handed down from the composition root.
    ("sqlx", &["cli", "service", "postgres", "repository"]),
    ("anyhow", &["cli"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("sd_notify", &["cli"]),
    ("sysinfo", &["postgres"]),
    ("x509_parser", &["cli"]),
    ("reqwest", &["cli", "delivery", "config", "telemetry"]),
    ("tokio", &["cli", "http", "delivery", "service", "postgres", "repository", "telemetry"]),
    ("futures_util", &["cli", "http", "service", "postgres", "repository"]),
    (
        "tracing",
        &["cli", "http", "delivery", "service", "postgres", "repository", "keyring", "telemetry"],
    ),
    ("serde", &["cli", "http", "service", "postgres", "repository", "wire"]),
    // For the domain only as the values of attributes.
    (
        "serde_json",
        &["cli", "http", "delivery", "service", "postgres", "repository", "wire", "domain"],
    ),
    ("std::fs", &["cli", "postgres", "keyring", "config", "metrics"]),
    ("std::net", &["cli", "http", "delivery", "config"]),
];

/// Longer files must have a reason to be.
const LONGEST: usize = 300;
const LONG_FOR_A_REASON: [(&str, &str); 2] = [
    ("src/wire/object.rs", "one lenient reader of JSON, field by field"),
    ("src/cli/app.rs", "eight commands of one noun"),
];

struct Source {
    /// From the root of the repository.
    name: String,
    /// Such as `["http", "youdu", "call"]`; empty for the crate's root.
    module: Vec<String>,
    /// Without comments, literals and unit tests, every byte at its place.
    code: String,
    lines: usize,
}

impl Source {
    fn room(&self) -> &str {
        self.module.first().map_or("", String::as_str)
    }

    fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }

    /// Where `word` stands by itself.
    fn all<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        self.code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
            !self.code[..at].ends_with(is_part)
                && (word.ends_with(['(', ':', '!', ' '])
                    || !self.code[at + word.len()..].starts_with(is_part))
        })
    }

    /// The modules of this crate that are named here, from the crate's root, and where.
    fn named(&self) -> Vec<(usize, Vec<String>)> {
        let mut found = Vec::new();
        for at in self.all("crate") {
            if let Some(rest) = self.code[at + "crate".len()..].strip_prefix("::") {
                collect(rest, &[], &mut |path| found.push((at, path)));
            }
        }
        for at in self.all("super") {
            // Only where a chain of them begins.
            if self.code[..at].ends_with("super::") {
                continue;
            }
            let mut rest = &self.code[at..];
            let mut ups = 0;
            while let Some(after) = rest.strip_prefix("super::") {
                (rest, ups) = (after, ups + 1);
            }
            let above = &self.module[..self.module.len().saturating_sub(ups)];
            collect(rest, above, &mut |path| found.push((at, path)));
        }
        found
    }
}

/// Follows a path, into the braces where it branches.
fn collect(text: &str, above: &[String], found: &mut impl FnMut(Vec<String>)) {
    let text = text.trim_start();
    if let Some(inside) = text.strip_prefix('{') {
        let (mut depth, mut start) = (0, 0);
        for (at, c) in inside.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => {
                    collect(&inside[start..at], above, found);
                    return;
                }
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    collect(&inside[start..at], above, found);
                    start = at + 1;
                }
                _ => {}
            }
        }
        return;
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    if end == 0 {
        return;
    }
    let path: Vec<String> = above.iter().cloned().chain([text[..end].to_owned()]).collect();
    match text[end..].strip_prefix("::") {
        Some(rest) if !rest.starts_with(['<', '*']) => collect(rest, &path, found),
        _ => found(path),
    }
}

/// Every source, but not the files of unit tests.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut directories = vec![root.join("src")];
    let mut sources = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs")
            {
                sources.push(source(root, &path));
            }
        }
    }
    assert!(sources.len() > 40, "where are the sources?");
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    sources
}

fn source(root: &Path, path: &PathBuf) -> Source {
    let name = path.strip_prefix(root).unwrap();
    let mut module: Vec<String> = name
        .with_extension("")
        .iter()
        .skip(1)
        .map(|part| part.to_str().unwrap().to_owned())
        .collect();
    if matches!(module.last().unwrap().as_str(), "mod" | "lib" | "main") {
        module.pop();
    }
    let code = blanked(&std::fs::read_to_string(path).unwrap());
    let code = match code.find("#[cfg(test)]") {
        Some(at) => code[..at].to_owned(),
        None => code,
    };
    Source { name: name.to_str().unwrap().to_owned(), module, lines: code.lines().count(), code }
}

/// The code with blanks for comments and literals, of the same length in bytes and lines.
fn blanked(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    let mut blank = |from: usize, to: usize| {
        for byte in &mut out[from..to] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    };
    while at < bytes.len() {
        let rest = &bytes[at..];
        let word_before =
            at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        let length = if rest.starts_with(b"//") {
            rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            text[at..].find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest[0] == b'"' {
            quoted(rest)
        } else if rest[0] == b'r' && !word_before && rest[1..].starts_with(b"#\"") {
            text[at..].find("\"#").map_or(rest.len(), |end| end + 2)
        } else if rest[0] == b'r' && !word_before && rest.get(1) == Some(&b'"') {
            2 + text[at + 2..].find('"').map_or(rest.len() - 2, |end| end + 1)
        } else if rest[0] == b'\'' {
            // A character, or else a lifetime.
            match text[at + 1..].chars().next() {
                Some('\\') => 3 + text[at + 3..].find('\'').unwrap_or_default(),
                Some(c) if text[at + 1 + c.len_utf8()..].starts_with('\'') => 2 + c.len_utf8(),
                _ => 0,
            }
        } else {
            0
        };
        if length > 0 {
            blank(at, at + length);
        }
        at += length.max(1);
    }
    String::from_utf8(out).unwrap()
}

fn quoted(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Fails with all that is wrong, one a line.
fn none(mistakes: &[String]) {
    let mut text = String::new();
    for mistake in mistakes {
        writeln!(text, "  {mistake}").unwrap();
    }
    assert!(mistakes.is_empty(), "the house is not in order:\n{text}");
}

#[test]
fn imports_point_down() {
    let mut mistakes = Vec::new();
    let floor = |room: &str| ROOMS.iter().position(|known| *known == room);
    for source in sources() {
        let room = source.room();
        if room.is_empty() {
            continue;
        }
        if floor(room).is_none() && !BASE.contains(&room) {
            mistakes.push(format!(
                "{}:1: no room is called `{room}`: give it a place in the table",
                source.name
            ));
        }
        for (at, path) in source.named() {
            let used = path[0].as_str();
            let known = floor(used).is_some() || BASE.contains(&used);
            if used == room || !known {
                continue;
            }
            let wrong = match (floor(room), floor(used)) {
                _ if NEVER.contains(&(room, used)) => true,
                (Some(own), Some(other)) => other < own,
                (Some(_), None) => PURE.contains(&room),
                (None, Some(_)) => true,
                (None, None) => false,
            };
            if wrong {
                let (name, line) = (&source.name, source.line(at));
                mistakes.push(format!("{name}:{line}: `{room}` may not use `{}`", path.join("::")));
            }
        }
    }
    none(&mistakes);
}

#[test]
fn the_apis_know_nothing_of_each_other() {
    let mut mistakes = Vec::new();
    for source in sources() {
        let Some(own) = source.module.get(1).filter(|name| APIS.contains(&name.as_str())) else {
            continue;
        };
        for (at, path) in source.named() {
            if path[0] == "http"
                && let Some(other) = path.get(1)
                && other != own
                && APIS.contains(&other.as_str())
            {
                let (name, line) = (&source.name, source.line(at));
                mistakes.push(format!("{name}:{line}: `{own}` may not use `{}`", path.join("::")));
            }
        }
    }
    none(&mistakes);
}

#[test]
fn crates_stay_where_they_belong() {
    let mut mistakes = Vec::new();
    for source in sources() {
        let room = source.room();
        for (used, rooms) in CRATES {
            if room.is_empty() || rooms.contains(&room) {
                continue;
            }
            for at in source.all(used) {
                let is_path = source.code[at + used.len()..].starts_with("::");
                let is_import = source.code[..at].ends_with("use ");
                if is_path || is_import {
                    let (name, line) = (&source.name, source.line(at));
                    mistakes.push(format!(
                        "{name}:{line}: `{used}` is for {}, not for `{room}`",
                        rooms.join(", ")
                    ));
                }
            }
        }
    }
    none(&mistakes);
}

#[test]
fn sql_is_in_the_repository() {
    let mut mistakes = Vec::new();
    // Copies of a whole database are made by statements, too, which are about no table by name.
    let has_sql = |room: &str| ["postgres", "repository"].contains(&room);
    for source in sources().iter().filter(|source| !has_sql(source.room())) {
        for statement in [
            "query!",
            "query_as!",
            "query_scalar!",
            "query_file!",
            "sqlx::query",
            "sqlx::query_as",
            "sqlx::query_scalar",
            "sqlx::raw_sql",
            "raw_sql",
            "QueryBuilder",
            "migrate!",
        ] {
            for at in source.all(statement) {
                let (name, line) = (&source.name, source.line(at));
                mistakes.push(format!("{name}:{line}: `{statement}` outside `repository`"));
            }
        }
    }
    none(&mistakes);
}

#[test]
fn the_pure_rooms_are_pure() {
    const IMPURE: [&str; 9] = [
        "async",
        "std::env",
        "std::fs",
        "std::io::stdin",
        "std::net",
        "std::process",
        "std::thread",
        "SystemTime",
        "Instant",
    ];
    let mut mistakes = Vec::new();
    for source in sources().iter().filter(|source| PURE.contains(&source.room())) {
        for impure in IMPURE {
            for at in source.all(impure) {
                let (name, line) = (&source.name, source.line(at));
                mistakes.push(format!("{name}:{line}: `{impure}` in `{}`", source.room()));
            }
        }
    }
    none(&mistakes);
}

#[test]
fn files_are_short() {
    let mut mistakes = Vec::new();
    for source in sources() {
        let reason = LONG_FOR_A_REASON.iter().find(|(name, _)| *name == source.name);
        let (name, lines) = (&source.name, source.lines);
        match (lines > LONGEST, reason) {
            (true, None) => mistakes
                .push(format!("{name}:{LONGEST}: {lines} lines without its tests: divide it")),
            (false, Some(_)) => mistakes
                .push(format!("{name}:1: {lines} lines: take it from the list of the long ones")),
            _ => {}
        }
    }
    none(&mistakes);
}

#[test]
fn this_test_would_see_it() {
    let of = |name: &str, text: &str| {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        source(root.path(), &path)
    };
    let text = "// crate::cli\nuse crate::{domain::App, wire::{Key, self}};\n\
                fn f() { \"crate::cli\"; r#\"crate::cli\"#; '\"'; super::super::rest::f(); crate::clock::Clock::new() }\n\
                #[cfg(test)]\nmod tests { use crate::repository; }\n";
    let found = of("src/http/youdu/call.rs", text);
    let named: Vec<String> = found.named().into_iter().map(|(_, path)| path.join("::")).collect();
    assert_eq!(
        named,
        ["domain::App", "wire::Key", "wire::self", "clock::Clock::new", "http::rest::f",]
    );
    assert_eq!(found.line(found.named()[0].0), 2);
    assert_eq!(of("src/clock.rs", "use super::config::Log;").named()[0].1, ["config", "Log"]);
    assert_eq!(
        of("src/a.rs", "fn f() { my_sqlx::x(); sqlx::query(\"\"); }").all("sqlx").count(),
        1
    );
}
