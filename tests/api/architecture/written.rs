//! Paths as a file writes them: in `use` declarations and in the code.

use std::ops::Range;

use super::source::{Source, is_word};

/// One name of a `use` declaration.
pub struct Use {
    /// The position of the declaration.
    pub at: usize,
    /// The path as written. A path that begins with `::` has an empty first part.
    pub path: Vec<String>,
    /// The name in this file; `*` for all names.
    pub alias: String,
}

/// The `use` declarations of a file, one for each leaf.
pub fn uses(source: &Source) -> Vec<Use> {
    let mut found = Vec::new();
    for range in declarations(source) {
        let (at, tree) = (range.start, &source.code[range.start + "use ".len()..range.end]);
        leaves(tree, &[], &mut |path, alias| found.push(Use { at, path, alias }));
    }
    found
}

fn declarations(source: &Source) -> impl Iterator<Item = Range<usize>> {
    source.all("use ").map(|at| {
        let rest = &source.code[at..];
        at..at + rest.find(';').unwrap_or(rest.len())
    })
}

fn leaves(tree: &str, above: &[String], found: &mut impl FnMut(Vec<String>, String)) {
    let tree = tree.trim();
    let (head, branches) = match tree.split_once('{') {
        Some((head, inside)) => (head, Some(inside.trim_end().trim_end_matches('}'))),
        None => (tree, None),
    };
    // An empty first part stands for `::name`, a path into another crate.
    let parts = head.trim_end().trim_end_matches("::").split("::");
    let (mut path, mut alias) = (above.to_vec(), None);
    for part in parts.filter(|_| branches.is_none() || !head.trim().is_empty()) {
        let (name, renamed) = part.split_once(" as ").unwrap_or((part, ""));
        path.push(name.trim().to_owned());
        alias = Some(renamed.trim()).filter(|name| !name.is_empty());
    }
    if let Some(inside) = branches {
        branches_of(inside).for_each(|branch| leaves(branch, &path, found));
        return;
    }
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    let alias = alias.map_or_else(|| path.last().cloned().unwrap_or_default(), str::to_owned);
    if alias == "*" {
        path.pop();
    }
    found(path, alias);
}

/// Splits at commas outside of inner braces.
fn branches_of(inside: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    inside
        .split(move |c| {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ',' && depth == 0
        })
        .filter(|branch| !branch.trim().is_empty())
}

/// Paths of two names or more in the code outside of `use`, and their positions.
pub fn paths(source: &Source) -> Vec<(usize, Vec<String>)> {
    let declarations: Vec<_> = declarations(source).collect();
    let mut found = Vec::new();
    for (start, _) in source.code.match_indices("::") {
        let before = &source.code[..start];
        let head = before.rsplit(|c| !is_word(c)).next().unwrap_or_default();
        let at = start - head.len();
        let above = source.code[..at].strip_suffix("::");
        // The head of a path has nothing before it, or `::` that follows neither a name nor `>`.
        let is_inner = |above: &str| above.ends_with(|c: char| is_word(c) || c == '>');
        if head.is_empty() || above.is_some_and(is_inner) {
            continue;
        }
        let mut path = vec![head.to_owned()];
        if above.is_some() {
            path.insert(0, String::new());
        }
        let mut rest = &source.code[start..];
        while let Some(after) = rest.strip_prefix("::") {
            let end = after.find(|c| !is_word(c)).unwrap_or(after.len());
            if end == 0 {
                break;
            }
            path.push(after[..end].to_owned());
            rest = &after[end..];
        }
        if path.len() > 1 && !declarations.iter().any(|range| range.contains(&at)) {
            found.push((at, path));
        }
    }
    found
}
