//! No import cycles between files.
//!
//! A file and its unit tests are one file.

use std::collections::BTreeMap;

use super::fail_on;
use super::imports::Tree;

struct Graph {
    /// For each file: the imported files, and where each import is.
    arrows: Vec<BTreeMap<usize, String>>,
}

impl Graph {
    fn new(tree: &Tree) -> Self {
        let arrows = (0..tree.sources.len()).map(|file| {
            let source = &tree.sources[file];
            let mut arrows = BTreeMap::new();
            for import in tree.imports(file) {
                if import.target != file && !import.is_module {
                    arrows.entry(import.target).or_insert_with(|| {
                        let (line, path) = (source.line(import.at), import.path.join("::"));
                        format!("{}:{line}: imports `{path}`", source.name)
                    });
                }
            }
            arrows
        });
        Self { arrows: arrows.collect() }
    }

    /// The strongly connected components of two files or more, by Tarjan's algorithm.
    fn circles(&self) -> Vec<Vec<usize>> {
        let mut search = Search::new(self);
        (0..self.arrows.len()).for_each(|file| search.visit(file));
        search.found
    }
}

struct Search<'a> {
    graph: &'a Graph,
    /// The order of the visits, from 1; 0 is not visited.
    order: Vec<usize>,
    lowest: Vec<usize>,
    stack: Vec<usize>,
    visits: usize,
    found: Vec<Vec<usize>>,
}

impl<'a> Search<'a> {
    fn new(graph: &'a Graph) -> Self {
        let none = vec![0; graph.arrows.len()];
        let (order, lowest) = (none.clone(), none);
        Self { graph, order, lowest, stack: Vec::new(), visits: 0, found: Vec::new() }
    }

    fn visit(&mut self, file: usize) {
        if self.order[file] > 0 {
            return;
        }
        self.visits += 1;
        (self.order[file], self.lowest[file]) = (self.visits, self.visits);
        self.stack.push(file);
        for &other in self.graph.arrows[file].keys() {
            if self.order[other] == 0 {
                self.visit(other);
                self.lowest[file] = self.lowest[file].min(self.lowest[other]);
            } else if self.stack.contains(&other) {
                self.lowest[file] = self.lowest[file].min(self.order[other]);
            }
        }
        if self.lowest[file] == self.order[file] {
            let start = self.stack.iter().position(|on| *on == file).unwrap();
            let circle = self.stack.split_off(start);
            if circle.len() > 1 {
                self.found.push(circle);
            }
        }
    }
}

/// A text for each circle: its imports, one on each line.
fn mistakes(tree: &Tree) -> Vec<String> {
    let graph = Graph::new(tree);
    let mut mistakes = Vec::new();
    for circle in &graph.circles() {
        let mut text = format!("{} files import each other in a circle:", circle.len());
        for file in circle {
            for (other, arrow) in &graph.arrows[*file] {
                if circle.contains(other) {
                    text += &format!("\n    {arrow} of {}", tree.sources[*other].name);
                }
            }
        }
        mistakes.push(text);
    }
    mistakes
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let folders = ["src", "benches/load/src", "fuzz/src"];
    let all: Vec<String> =
        folders.into_iter().flat_map(|folder| mistakes(&Tree::read(folder))).collect();
    fail_on(&all);
}

#[test]
fn a_circle_of_two_files_is_found() {
    let tree = Tree::planted(&[
        ("a.rs", "use crate::b::B;\npub struct A;"),
        ("b.rs", "pub struct B;\nfn f() -> super::a::A { super::a::A }"),
        ("c.rs", "use crate::{a::A, b::B};"),
    ]);
    let expected = "2 files import each other in a circle:\n    \
                    src/a.rs:1: imports `b::B` of src/b.rs\n    \
                    src/b.rs:2: imports `a::A` of src/a.rs";
    assert_eq!(mistakes(&tree), [expected]);
}

#[test]
fn a_circle_through_a_re_export_is_found() {
    let tree = Tree::planted(&[
        (
            "room/mod.rs",
            "mod low;\nmod high;\npub use self::high::{Top as Renamed};\npub use low::*;",
        ),
        ("room/low.rs", "use crate::room;\npub struct Low;\nfn f() { room::Renamed::new() }"),
        ("room/high.rs", "pub struct Top { low: super::Low }"),
    ]);
    let mistakes = mistakes(&tree);
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert!(mistakes[0].starts_with("2 files ") && mistakes[0].contains("of src/room/low.rs"));
}

#[test]
fn a_circle_through_all_names_of_a_module_is_found() {
    let tree = Tree::planted(&[
        ("a.rs", "use self::super::b::*;\npub struct A;\nfn f(b: B) {}"),
        ("b.rs", "use crate::a::A;\npub struct B;"),
    ]);
    let mistakes = mistakes(&tree);
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert!(mistakes[0].contains("src/a.rs:1: imports `b::*` of src/b.rs"), "{mistakes:?}");
}

#[test]
fn modules_and_unit_tests_make_no_circle() {
    let tree = Tree::planted(&[
        ("room/mod.rs", "mod part;\npub use part::Part;\nuse std::fmt;"),
        (
            "room/part.rs",
            "use super::super::room;\npub struct Part;\n\
             #[cfg(test)]\nmod tests { use crate::other::Other; }\n\
             #[cfg(test)]\nmod more;",
        ),
        ("room/part/more.rs", "use super::*;\nuse crate::other::*;"),
        ("other.rs", "use crate::room::Part;\npub struct Other;\nfn f() { Part::part(); }"),
    ]);
    assert_eq!(mistakes(&tree), [""; 0]);
}
