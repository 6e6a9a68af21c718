//! A public type name stands for one type in the whole crate.

use std::collections::BTreeMap;

use super::fail_on;
use super::imports::Tree;
use super::source::{Source, is_word};

/// Rust code expects these once for each module.
const SHARED: [&str; 4] = ["Error", "Result", "Options", "Config"];

/// The types that are visible to other modules, and where each is declared.
fn declared(source: &Source) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    for kind in ["struct ", "enum ", "trait ", "type ", "union "] {
        for at in source.all(kind) {
            // `pub`, `pub(crate)`, `pub(in …)`, `pub unsafe`, …
            let start = source.code[..at].rfind([';', '{', '}', ']']).map_or(0, |end| end + 1);
            let is_public = source.code[start..at].trim_start().starts_with("pub");
            let name = source.code[at + kind.len()..].trim_start();
            let name = &name[..name.find(|c| !is_word(c)).unwrap_or(name.len())];
            if is_public && !name.is_empty() && !SHARED.contains(&name) {
                found.push((name, format!("{}:{}", source.name, source.line(at))));
            }
        }
    }
    found
}

fn mistakes(tree: &Tree) -> Vec<String> {
    let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, place) in tree.sources.iter().flat_map(declared) {
        places.entry(name).or_default().push(place);
    }
    let duplicates = places.iter().filter(|(_, places)| places.len() > 1);
    let text = |(name, places): (&&str, &Vec<String>)| {
        format!("{} types are called `{name}`: {}", places.len(), places.join(", "))
    };
    duplicates.map(text).collect()
}

#[test]
fn public_type_names_are_unique() {
    fail_on(&mistakes(&Tree::read("src")));
}

#[test]
fn duplicate_type_name_is_found() {
    let tree = Tree::planted(&[
        (
            "a.rs",
            "pub struct Page<T>(T);\npub enum Error {}\nstruct Row;\n#[derive(Debug)]\npub struct One;",
        ),
        (
            "b.rs",
            "#[derive(Debug)]\npub(crate) type Page = u8;\npub struct Error;\npub struct Row;",
        ),
        ("c.rs", "fn f() { struct Page; }\n#[cfg(test)]\npub struct One;"),
    ]);
    let twice = "2 types are called `Page`: src/a.rs:1, src/b.rs:2".to_owned();
    assert_eq!(mistakes(&tree), [twice]);
}
