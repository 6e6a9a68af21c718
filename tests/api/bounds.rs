//! The table of bounds in the manual: each row agrees with the configuration or with the source, and
//! none is missing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use toml::Table;

const SETTINGS: &str = "config/default.toml";
const PAGE: &str = "docs/operate/bounds.md";
/// What a bound is shared by.
const OWNERS: [&str; 7] =
    ["process", "enterprise", "app", "address", "connection", "request", "session"];

/// Constants with the name of a bound that limit no memory: repetitions, times, texts of errors.
const NO_MEMORY: [(&str, &str); 7] = [
    ("src/domain/event.rs", "MAX_COMPARED"),
    ("src/domain/session.rs", "MAX_SCANNED"),
    ("src/http/auth/attempt_throttle.rs", "MAX_WAIT"),
    ("src/http/shared/retry_after.rs", "MAX_SECONDS"),
    ("src/http/v1/extract/field.rs", "MAX_CHARS"),
    ("src/domain/text.rs", "MAX_CHARS"),
    ("src/service/batching/queue.rs", "MAX_SINGLES"),
];

/// Rooms without bounds for callers: commands of operators, settings, the embedded database.
const OPERATORS: [&str; 3] = ["src/cli", "src/config", "src/postgres"];

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A row of the table.
#[derive(Debug)]
struct Row {
    subject: String,
    bound: String,
    name: Name,
    owners: String,
    beyond: String,
}

/// Where the program has the bound.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Setting(String),
    Constant { file: String, name: String },
}

fn rows() -> Vec<Row> {
    let page = read(PAGE);
    let lines = page.lines().filter(|line| line.starts_with("| ")).skip(2);
    let rows: Vec<Row> = lines.map(row).collect();
    assert!(rows.len() > 50, "only {} rows", rows.len());
    rows
}

fn row(line: &str) -> Row {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [subject, bound, name, owners, beyond] = cells[..] else { panic!("{line}") };
    let quoted: Vec<&str> = name.split('`').skip(1).step_by(2).collect();
    let name = match quoted[..] {
        [setting] => Name::Setting(setting.to_owned()),
        [name, file] => Name::Constant { file: file.to_owned(), name: name.to_owned() },
        _ => panic!("{line}: names neither a setting nor a constant and its file"),
    };
    let [subject, bound, owners, beyond] = [subject, bound, owners, beyond].map(str::to_owned);
    Row { subject, bound, name, owners, beyond }
}

/// The number of a cell such as `16 KiB` or `4,096 bytes`; `None` if it begins with a word.
fn number(cell: &str) -> Option<i64> {
    let mut words = cell.split(' ');
    let number: i64 = words.next()?.replace(',', "").parse().ok()?;
    let unit = match words.next() {
        Some("KiB") => 1 << 10,
        Some("MiB") => 1 << 20,
        Some("GiB") => 1 << 30,
        Some("bytes" | "characters" | "s") | None => 1,
        Some(unit) => panic!("{cell}: the unit {unit} is not known"),
    };
    Some(number * unit)
}

/// The default of a setting; `None` if there is no such setting.
fn default(settings: &Table, key: &str) -> Option<i64> {
    let (table, key) = key.split_once('.')?;
    settings.get(table)?.get(key)?.as_integer()
}

/// Names of constants with their values, in a source before its tests. A constant of a type also has
/// the name with its type.
fn constants(source: &str) -> Vec<(String, i64)> {
    let source = source.split("#[cfg(test)]\nmod tests").next().unwrap();
    let mut found = Vec::new();
    let mut owner = None;
    for line in source.lines() {
        if let Some(rest) = line.strip_prefix("impl ") {
            owner = rest.split([' ', '<']).next();
        }
        let Some((_, declared)) = line.split_once("const ") else { continue };
        let Some((name, rest)) = declared.split_once(": ") else { continue };
        let Some((_, value)) = rest.split_once(" = ") else { continue };
        let Some(value) = value.strip_suffix(';').and_then(product) else { continue };
        found.push((name.to_owned(), value));
        if let Some(owner) = owner.filter(|_| line.starts_with(' ')) {
            found.push((format!("{owner}::{name}"), value));
        }
    }
    found
}

/// The value of an expression such as `16 * 1_024`.
fn product(text: &str) -> Option<i64> {
    text.split('*').map(|factor| factor.trim().replace('_', "").parse::<i64>().ok()).product()
}

#[test]
fn each_row_of_the_table_agrees_with_the_program() {
    let settings: Table = read(SETTINGS).parse().unwrap();
    let mut seen = BTreeSet::new();
    for row in rows() {
        let Row { subject, bound, name, owners, beyond } = row;
        let expected = match &name {
            // 0 stands for another rule, which the cell has in words.
            Name::Setting(key) => default(&settings, key).map(|value| (value, value != 0)),
            Name::Constant { file, name } => {
                let values = constants(&read(file));
                values.iter().find(|(found, _)| found == name).map(|(_, value)| (*value, true))
            }
        };
        let Some((value, is_number)) = expected else { panic!("{subject}: no {name:?}") };
        assert_eq!(number(&bound), is_number.then_some(value), "{subject}: {name:?}");
        assert!(OWNERS.iter().any(|owner| owners.starts_with(owner)), "{subject}: {owners}");
        assert!(!beyond.is_empty(), "{subject}: nothing is said about more");
        assert!(seen.insert(name), "{subject}: the bound has two rows");
    }
}

#[test]
fn each_setting_of_a_limit_has_a_row() {
    let settings: Table = read(SETTINGS).parse().unwrap();
    let listed: BTreeSet<Name> = rows().into_iter().map(|row| row.name).collect();
    for (table, keys) in &settings {
        let Some(keys) = keys.as_table() else { continue };
        for key in keys.keys().filter(|key| table == "limits" || key.starts_with("max_")) {
            let name = Name::Setting(format!("{table}.{key}"));
            assert!(listed.contains(&name), "{PAGE} has no row for {name:?}");
        }
    }
}

/// The Rust sources below a directory, by their path from the root.
fn sources(directory: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut directories: Vec<PathBuf> = vec![root.join(directory)];
    let mut found = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found
}

/// Whether a constant bounds a number of things, by its name.
fn is_bound(name: &str) -> bool {
    let is_named =
        name.starts_with("MAX") || name.ends_with("CAPACITY") || name.starts_with("REMEMBERED");
    is_named && !name.ends_with("_RETRIES")
}

#[test]
fn each_constant_of_a_bound_has_a_row() {
    let listed: BTreeSet<Name> = rows().into_iter().map(|row| row.name).collect();
    let has_row = |file: &str, name: &str| {
        let (file, name) = (file.to_owned(), name.to_owned());
        listed.contains(&Name::Constant { file, name })
    };
    let mut checked = 0;
    for file in sources("src") {
        if OPERATORS.iter().any(|room| file.starts_with(room)) {
            continue;
        }
        let constants = constants(&read(&file));
        for (index, (name, _)) in constants.iter().enumerate() {
            if !is_bound(name) || NO_MEMORY.contains(&(file.as_str(), name.as_str())) {
                continue;
            }
            // The name with the type follows the name.
            let with_type = constants.get(index + 1).map(|(next, _)| next.as_str());
            let with_type = with_type.filter(|next| next.ends_with(&format!("::{name}")));
            let is_listed =
                has_row(&file, name) || with_type.is_some_and(|name| has_row(&file, name));
            assert!(is_listed, "{PAGE} has no row for {name} in {file}");
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} constants were found");
}

#[test]
fn cells_and_constants_are_read_as_numbers() {
    for (cell, value) in [
        ("1,048,576", Some(1_048_576)),
        ("16 KiB", Some(16_384)),
        ("4,096 bytes", Some(4_096)),
        ("none", None),
        ("half of `server.max_connections`", None),
    ] {
        assert_eq!(number(cell), value, "{cell}");
    }
    let source = "const A: usize = 16 * 1_024;\nimpl B {\n    pub const C: u16 = 7;\n}\n\
                  const D: usize = E as usize;\n#[cfg(test)]\nmod tests {\n    const F: i64 = 1;\n}\n";
    let found = constants(source);
    let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(found, [("A", 16_384), ("C", 7), ("B::C", 7)]);
}
