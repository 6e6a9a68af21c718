//! Imports, resolved to the file that defines the imported item.
//!
//! Both `use` trees and paths in the code count. A path may begin with `crate`, `super`, `self`, a
//! child module, or a name that the file imports. Re-exports are followed. `mod x;` is not an
//! import. `constructs.rs` forbids the constructs that would hide an import from this file.

use std::collections::HashMap;

use super::source::{self, Source, is_word};
use super::written::{Use, paths, uses};

pub struct Tree {
    pub sources: Vec<Source>,
    /// Source files by module path.
    files: HashMap<Vec<String>, usize>,
    /// The `use` declarations of each source.
    uses: Vec<Vec<Use>>,
}

pub struct Import {
    /// The position of the path in the code.
    pub at: usize,
    /// The path as written, from the crate's root.
    pub path: Vec<String>,
    /// The source that defines the item.
    pub target: usize,
    /// The path names a module and no item in it.
    pub is_module: bool,
}

/// An item, for all paths that name it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// An item of this crate: its file and its name there.
    Own(usize, String),
    /// An item of another crate.
    Foreign(Vec<String>),
}

/// A path from the root of a crate.
enum Absolute {
    Own(Vec<String>),
    /// A path into another crate, which begins with the name of that crate. Names that are neither
    /// modules nor imports, such as those of the prelude, count as crates.
    Foreign(Vec<String>),
}

impl Absolute {
    fn join(self, rest: &[String]) -> Self {
        match self {
            Self::Own(path) => Self::Own([&path[..], rest].concat()),
            Self::Foreign(path) => Self::Foreign([&path[..], rest].concat()),
        }
    }
}

impl Tree {
    pub fn read(folder: &str) -> Self {
        Self::new(source::read(folder))
    }

    pub fn new(sources: Vec<Source>) -> Self {
        let mut files = HashMap::new();
        for (index, source) in sources.iter().enumerate() {
            // `src/lib.rs` and `src/main.rs` are both a root; `lib.rs` comes first.
            files.entry(source.module.clone()).or_insert(index);
        }
        let uses = sources.iter().map(uses).collect();
        Self { sources, files, uses }
    }

    /// A crate of test sources: names below `src`, and texts.
    pub fn planted(sources: &[(&str, &str)]) -> Self {
        Self::planted_in("src", sources)
    }

    /// A crate of test sources: names below `folder`, and texts.
    pub fn planted_in(folder: &str, sources: &[(&str, &str)]) -> Self {
        let planted =
            |(name, text): &(&str, &str)| Source::new(folder, &format!("{folder}/{name}"), text);
        let sources = [("lib.rs", "")].iter().chain(sources).map(planted).collect();
        Self::new(source::without_test_files(sources))
    }

    /// The `use` declarations of a source.
    pub fn uses(&self, source: usize) -> &[Use] {
        &self.uses[source]
    }

    /// The imports of items and modules of the same crate.
    pub fn imports(&self, source: usize) -> Vec<Import> {
        let mut imports = Vec::new();
        for (at, path, is_glob) in self.written(source) {
            let Absolute::Own(mut path) = self.absolute(source, &path, 0) else { continue };
            if let Some((target, is_module)) = self.resolve(&path, &mut Vec::new()) {
                if is_glob {
                    path.push("*".to_owned());
                }
                imports.push(Import { at, path, target, is_module: is_module && !is_glob });
            }
        }
        imports
    }

    /// The positions of the paths into other crates, and the paths from the name of the crate.
    pub fn foreign(&self, source: usize) -> Vec<(usize, Vec<String>)> {
        let foreign = |(at, path, _): (usize, Vec<String>, bool)| {
            self.foreign_path(source, &path).map(|path| (at, path))
        };
        self.written(source).filter_map(foreign).collect()
    }

    /// The path from the name of the crate, if `path` in a source leads into another crate.
    fn foreign_path(&self, source: usize, path: &[String]) -> Option<Vec<String>> {
        match self.absolute(source, path, 0) {
            Absolute::Own(_) => None,
            Absolute::Foreign(path) => Some(path),
        }
    }

    /// The `use` declarations that export a crate or a part of it again, and its path.
    pub fn re_exports(&self, source: usize) -> impl Iterator<Item = (&Use, Vec<String>)> {
        let file = &self.sources[source];
        let is_own_macro = |path: &[String]| match path {
            [name] => file.code.contains(&format!("macro_rules! {name} ")),
            _ => false,
        };
        let public = self.uses[source].iter();
        let public =
            public.filter(move |used| file.is_public(used.at) && !is_own_macro(&used.path));
        public.filter_map(move |used| Some((used, self.foreign_path(source, &used.path)?)))
    }

    /// The item that a path in a source names.
    pub fn item(&self, source: usize, path: &[String]) -> Item {
        match self.absolute(source, path, 0) {
            Absolute::Own(path) => {
                let name = path.last().cloned().unwrap_or_default();
                let found = self.resolve(&path, &mut Vec::new());
                Item::Own(found.map_or(source, |(file, _)| file), name)
            }
            Absolute::Foreign(path) => match &path[..] {
                [name] if self.has(source, name) => Item::Own(source, name.clone()),
                _ => Item::Foreign(path),
            },
        }
    }

    /// All paths of a source as written, their positions, and whether each stands for all names.
    fn written(&self, source: usize) -> impl Iterator<Item = (usize, Vec<String>, bool)> {
        let used = |used: &Use| (used.at, used.path.clone(), used.alias == "*");
        let in_code = |(at, path)| (at, path, false);
        let in_code = paths(&self.sources[source]).into_iter().map(in_code);
        self.uses[source].iter().map(used).chain(in_code)
    }

    /// The path from the root of its crate.
    fn absolute(&self, source: usize, path: &[String], depth: usize) -> Absolute {
        let module = &self.sources[source].module[..];
        let Some((head, rest)) = path.split_first() else {
            return Absolute::Foreign(Vec::new());
        };
        match head.as_str() {
            "" => Absolute::Foreign(rest.to_vec()),
            "crate" => Absolute::Own(rest.to_vec()),
            "self" | "super" => {
                let is_step = |part: &&String| ["self", "super"].contains(&part.as_str());
                let steps = path.iter().take_while(is_step).count();
                let ups = path[..steps].iter().filter(|part| *part == "super").count();
                let above = &module[..module.len().saturating_sub(ups)];
                Absolute::Own([above, &path[steps..]].concat())
            }
            _ => {
                let child = [module, path].concat();
                if self.files.contains_key(&child[..=module.len()]) {
                    return Absolute::Own(child);
                }
                let used = self.uses[source].iter().find(|used| used.alias == *head);
                match used {
                    // A name that is imported under itself, as in `use uuid::uuid`, ends here.
                    Some(used) if depth < 8 => {
                        self.absolute(source, &used.path, depth + 1).join(rest)
                    }
                    _ => Absolute::Foreign(path.to_vec()),
                }
            }
        }
    }

    /// The source that defines the item at `path`, and whether the path is a module's.
    fn resolve(&self, path: &[String], seen: &mut Vec<(usize, String)>) -> Option<(usize, bool)> {
        let mut file = *self.files.get(&[][..])?;
        for (index, part) in path.iter().enumerate() {
            let child = [self.sources[file].module.as_slice(), std::slice::from_ref(part)].concat();
            if let Some(child) = self.files.get(&child) {
                file = *child;
                continue;
            }
            let key = (file, part.clone());
            if seen.contains(&key) {
                return Some((file, false));
            }
            seen.push(key);
            let rest = &path[index + 1..];
            if let Some(used) = self.uses[file].iter().find(|used| used.alias == *part) {
                return match self.absolute(file, &used.path, 0).join(rest) {
                    Absolute::Own(path) => self.resolve(&path, seen),
                    Absolute::Foreign(_) => Some((file, false)),
                };
            }
            for used in self.uses[file].iter().filter(|used| used.alias == "*") {
                if let Absolute::Own(above) = self.absolute(file, &used.path, 0)
                    && let Some((other, true)) = self.resolve(&above, seen)
                    && self.has(other, part)
                {
                    return self.resolve(&[above.as_slice(), &path[index..]].concat(), seen);
                }
            }
            return Some((file, false));
        }
        Some((file, true))
    }

    /// Whether `name` is an item, an import or a module of this file.
    fn has(&self, file: usize, name: &str) -> bool {
        let source = &self.sources[file];
        let is_item = |at: usize| {
            let before = source.code[..at].trim_end().rsplit(|c| !is_word(c)).next();
            before.is_some_and(|word| {
                ["struct", "enum", "trait", "type", "union", "fn", "const", "static"]
                    .contains(&word)
            })
        };
        source.all(name).any(is_item) || self.uses[file].iter().any(|used| used.alias == name)
    }
}
