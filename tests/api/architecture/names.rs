//! No two files declare a type of the same name, public or private, and a type has one public name.
//!
//! Types that a macro declares are not seen, and neither is a second type in the same file: it may
//! be the same type for another platform.

use std::collections::BTreeMap;

use super::fail_on;
use super::imports::{Item, Tree};
use super::source::is_word;

/// Rust code expects these once for each module.
const SHARED: [&str; 4] = ["Error", "Result", "Options", "Config"];

/// A name of a type in the crate.
struct Name<'a> {
    name: &'a str,
    is_public: bool,
    item: Item,
    file: usize,
    at: usize,
}

/// The types that a file declares, without associated types, and the types that it exports again.
fn names(tree: &Tree, file: usize) -> Vec<Name<'_>> {
    let source = &tree.sources[file];
    let mut found = Vec::new();
    for kind in ["struct ", "enum ", "trait ", "type ", "union "] {
        for at in source.all(kind) {
            let is_public = source.is_public(at);
            let is_associated = kind == "type " && source.code[..at].ends_with(' ');
            if is_associated && !is_public {
                continue;
            }
            let name = first_word(&source.code[at + kind.len()..]);
            let item = Item::Own(file, name.to_owned());
            found.push(Name { name, is_public, item, file, at });
        }
    }
    for used in tree.uses(file) {
        if used.alias.starts_with(char::is_uppercase) && source.is_public(used.at) {
            let item = tree.item(file, &used.path);
            found.push(Name { name: &used.alias, is_public: true, item, file, at: used.at });
        }
    }
    found.retain(|found| !found.name.is_empty() && !SHARED.contains(&found.name));
    found
}

fn first_word(code: &str) -> &str {
    let code = code.trim_start();
    &code[..code.find(|c| !is_word(c)).unwrap_or(code.len())]
}

fn place(tree: &Tree, file: usize, at: usize) -> String {
    let source = &tree.sources[file];
    format!("{}:{}", source.name, source.line(at))
}

/// A text for each name of several types.
fn shared_names(tree: &Tree) -> Vec<String> {
    let mut types: BTreeMap<&str, BTreeMap<Item, String>> = BTreeMap::new();
    let all = (0..tree.sources.len()).flat_map(|file| names(tree, file));
    for Name { name, item, file, at, .. } in all {
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
        let public = names(tree, file).into_iter().filter(|found| found.is_public);
        for Name { name, item, at, .. } in public {
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

/// The type that stands alone on the right side of a `type` declaration, with the same parameters
/// as on the left side.
fn aliased_type(tree: &Tree, file: usize, at: usize) -> Option<Item> {
    let declaration = tree.sources[file].code[at..].strip_prefix("type ")?;
    let (name, path) = declaration.split_once(';')?.0.split_once('=')?;
    let parameters = name.trim().trim_start_matches(is_word);
    let path = path.trim();
    let path = path.strip_suffix(parameters).unwrap_or(path);
    let path: Vec<String> = path.split("::").map(str::to_owned).collect();
    let is_plain = path.iter().all(|part| part.chars().all(is_word));
    is_plain.then(|| tree.item(file, &path))
}

#[test]
fn type_names_are_unique() {
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
             #[derive(Debug)]\npub struct One;\nfn f() { enum Inner {} }",
        ),
        ("b.rs", "#[derive(Debug)]\npub(crate) type Page = u8;\npub struct Error;\nstruct Row;"),
        (
            "c.rs",
            "#[cfg(test)]\npub struct One;\nstruct Inner;\n\
             impl A for B {\n    type Page = u8;\n    type Row = u8;\n}",
        ),
    ]);
    assert_eq!(
        shared_names(&tree),
        [
            "2 types are called `Inner`: src/a.rs:6, src/c.rs:3",
            "2 types are called `Page`: src/a.rs:1, src/b.rs:2",
            "2 types are called `Row`: src/a.rs:3, src/b.rs:4",
        ]
    );
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
        ("e.rs", "pub struct Zed<T>(T);\npub type Zod<T> = Zed<T>;\npub type Small = Zed<u8>;"),
        ("d.rs", "pub use crate::a::Page;\npub use other::Page as Foreign;"),
    ]);
    assert_eq!(
        second_names(&tree),
        [
            "src/b.rs:1: `Leaf` is `Page` of src/a.rs",
            "src/c.rs:2: `Sheet` is `Page` of src/a.rs",
            "src/e.rs:2: `Zod` is `Zed` of src/e.rs",
        ]
    );
}
