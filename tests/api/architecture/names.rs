//! A public type name stands for one type in the whole crate, and a type has one name.

use std::collections::BTreeMap;

use super::fail_on;
use super::imports::{Item, Tree};
use super::source::{Source, is_word};

/// Rust code expects these once for each module.
const SHARED: [&str; 4] = ["Error", "Result", "Options", "Config"];

/// A name that other modules can use for a type.
struct Name<'a> {
    name: &'a str,
    item: Item,
    file: usize,
    at: usize,
}

/// The types that a file declares, and the types that it exports again.
fn names(tree: &Tree, file: usize) -> Vec<Name<'_>> {
    let source = &tree.sources[file];
    let mut found = Vec::new();
    for kind in ["struct ", "enum ", "trait ", "type ", "union "] {
        for at in source.all(kind).filter(|at| is_public(source, *at)) {
            let name = first_word(&source.code[at + kind.len()..]);
            let item = Item::Own(file, name.to_owned());
            found.push(Name { name, item, file, at });
        }
    }
    for used in tree.uses(file) {
        if used.alias.starts_with(char::is_uppercase) && is_public(source, used.at) {
            let item = tree.item(file, &used.path);
            found.push(Name { name: &used.alias, item, file, at: used.at });
        }
    }
    found.retain(|found| !found.name.is_empty() && !SHARED.contains(&found.name));
    found
}

fn first_word(code: &str) -> &str {
    let code = code.trim_start();
    &code[..code.find(|c| !is_word(c)).unwrap_or(code.len())]
}

/// Whether a declaration begins with `pub`, `pub(crate)`, `pub(in …)`, `pub unsafe`, …
fn is_public(source: &Source, at: usize) -> bool {
    let start = source.code[..at].rfind([';', '{', '}', ']']).map_or(0, |end| end + 1);
    source.code[start..at].trim_start().starts_with("pub")
}

fn place(tree: &Tree, file: usize, at: usize) -> String {
    let source = &tree.sources[file];
    format!("{}:{}", source.name, source.line(at))
}

/// A text for each name of several types.
fn shared_names(tree: &Tree) -> Vec<String> {
    let mut types: BTreeMap<&str, BTreeMap<Item, String>> = BTreeMap::new();
    let all = (0..tree.sources.len()).flat_map(|file| names(tree, file));
    for Name { name, item, file, at } in all {
        types.entry(name).or_default().entry(item).or_insert_with(|| place(tree, file, at));
    }
    let text = |(name, types): (&str, BTreeMap<Item, String>)| {
        let places: Vec<String> = types.into_values().collect();
        format!("{} types are called `{name}`: {}", places.len(), places.join(", "))
    };
    types.into_iter().filter(|(_, types)| types.len() > 1).map(text).collect()
}

/// A text for each second name of a type.
fn second_names(tree: &Tree) -> Vec<String> {
    let mut mistakes = Vec::new();
    for file in 0..tree.sources.len() {
        for Name { name, item, at, .. } in names(tree, file) {
            let aliased = aliased_type(tree, file, at).unwrap_or(item);
            if let Item::Own(declared_in, first) = aliased
                && first != name
                && !SHARED.contains(&first.as_str())
            {
                let place = place(tree, file, at);
                let declared_in = &tree.sources[declared_in].name;
                mistakes.push(format!("{place}: `{name}` is `{first}` of {declared_in}"));
            }
        }
    }
    mistakes
}

/// The type that stands alone on the right side of a `type` declaration.
fn aliased_type(tree: &Tree, file: usize, at: usize) -> Option<Item> {
    let declaration = tree.sources[file].code[at..].strip_prefix("type ")?;
    let (_, path) = declaration.split_once(';')?.0.split_once('=')?;
    let path: Vec<String> = path.trim().split("::").map(str::to_owned).collect();
    let is_plain = path.iter().all(|part| part.chars().all(is_word));
    is_plain.then(|| tree.item(file, &path))
}

#[test]
fn public_type_names_are_unique() {
    fail_on(&shared_names(&Tree::read("src")));
}

#[test]
fn a_public_type_has_one_name() {
    fail_on(&second_names(&Tree::read("src")));
}

#[test]
fn duplicate_type_name_is_found() {
    let tree = Tree::planted(&[
        (
            "a.rs",
            "pub struct Page<T>(T);\npub enum Error {}\nstruct Row;\n\
             #[derive(Debug)]\npub struct One;",
        ),
        (
            "b.rs",
            "#[derive(Debug)]\npub(crate) type Page = u8;\npub struct Error;\npub struct Row;",
        ),
        ("c.rs", "fn f() { struct Page; }\n#[cfg(test)]\npub struct One;"),
    ]);
    let twice = "2 types are called `Page`: src/a.rs:1, src/b.rs:2".to_owned();
    assert_eq!(shared_names(&tree), [twice]);
    assert_eq!(second_names(&tree), [""; 0]);
}

#[test]
fn duplicate_type_name_through_a_re_export_is_found() {
    let tree = Tree::planted(&[
        ("a.rs", "pub struct Page;\npub struct Pool;\npub struct Cell;"),
        ("b.rs", "pub use ::other::{Leaf as Page, Cell as _};\nuse other::Cell;"),
        ("c.rs", "pub(crate) use other::Pool;"),
        ("d.rs", "pub use crate::a::{Cell, Page as Error};"),
    ]);
    assert_eq!(
        shared_names(&tree),
        [
            "2 types are called `Page`: src/a.rs:1, src/b.rs:1",
            "2 types are called `Pool`: src/a.rs:2, src/c.rs:1",
        ]
    );
}

#[test]
fn second_name_of_a_type_is_found() {
    let tree = Tree::planted(&[
        ("a.rs", "pub struct Page;\npub struct Error;\npub type List = Vec<Page>;"),
        ("b.rs", "pub use crate::a::{Page as Leaf, Error as PageError};\nuse crate::a::Page as P;"),
        ("c.rs", "use crate::a::Page;\npub type Sheet = Page;\npub type Number = u64;"),
        ("d.rs", "pub use crate::a::Page;\npub use other::Page as Foreign;"),
    ]);
    assert_eq!(
        second_names(&tree),
        ["src/b.rs:1: `Leaf` is `Page` of src/a.rs", "src/c.rs:2: `Sheet` is `Page` of src/a.rs"]
    );
}
