//! One source file: its code with comments, literals and unit tests blanked out, every byte in its
//! place.

use std::path::Path;

pub struct Source {
    /// The path from the root of the repository.
    pub name: String,
    /// The module path, such as `["http", "cgi", "call"]`; empty for the crate's root.
    pub module: Vec<String>,
    /// The code with blanks for comments, literals and unit tests.
    pub code: String,
    /// The number of lines without the unit tests at the end.
    pub lines: usize,
    /// The modules in other files that this file declares for unit tests only.
    test_modules: Vec<Vec<String>>,
}

impl Source {
    /// A source file. `folder` holds the root of the crate, such as `src`.
    pub fn new(folder: &str, name: &str, text: &str) -> Self {
        let inner = Path::new(name).strip_prefix(folder).unwrap().with_extension("");
        let mut module: Vec<String> =
            inner.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        if matches!(module.last().unwrap().as_str(), "mod" | "lib" | "main") {
            module.pop();
        }
        let (code, test_modules) = without_tests(blanked(text));
        let test_modules =
            test_modules.into_iter().map(|test| [module.clone(), vec![test]].concat()).collect();
        let lines = code.trim_end().lines().count();
        Self { name: name.to_owned(), module, code, lines, test_modules }
    }

    pub fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }

    /// The positions of `word` as a whole word.
    pub fn all<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
            !self.code[..at].ends_with(is_word)
                && (word.ends_with(['(', ':', '!', ' ', '#'])
                    || !self.code[at + word.len()..].starts_with(is_word))
        })
    }

    /// Whether the declaration at `at` begins with `pub`, in any form, such as `pub(crate) unsafe`.
    pub fn is_public(&self, at: usize) -> bool {
        let start = self.code[..at].rfind([';', '{', '}', ']']).map_or(0, |end| end + 1);
        self.code[start..at].trim_start().starts_with("pub")
    }
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The sources below `folder`, without the files of unit tests.
pub fn read(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut directories = vec![root.join(folder)];
    let mut sources = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                sources.push(Source::new(folder, name, &std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!sources.is_empty(), "{folder} has no sources");
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    without_test_files(sources)
}

/// Removes the files of modules that are declared with `#[cfg(test)]`, and of modules in them.
pub fn without_test_files(mut sources: Vec<Source>) -> Vec<Source> {
    let tests: Vec<Vec<String>> =
        sources.iter().flat_map(|source| source.test_modules.clone()).collect();
    sources.retain(|source| !tests.iter().any(|test| source.module.starts_with(test)));
    sources
}

/// Blanks out each item, field or match arm after `#[cfg(test)]`. Returns the code, and the names
/// of the modules in other files that it blanked out.
fn without_tests(mut code: String) -> (String, Vec<String>) {
    const MARK: &str = "#[cfg(test)]";
    let mut modules = Vec::new();
    while let Some(start) = code.find(MARK) {
        let is_item = is_item(&code[start + MARK.len()..]);
        let mut depth = 0_usize;
        let mut end = code.len();
        for (at, byte) in code.bytes().enumerate().skip(start + MARK.len()) {
            match byte {
                b'{' | b'(' | b'[' => depth += 1,
                // The last field or arm of the code around it.
                b'}' | b')' | b']' if depth == 0 => {
                    end = at;
                    break;
                }
                b'}' | b')' | b']' => depth -= 1,
                _ => {}
            }
            if depth == 0 && (matches!(byte, b'}' | b';') || (byte == b',' && !is_item)) {
                end = at + 1;
                break;
            }
        }
        let item = code[start..end].strip_suffix(';').and_then(|item| item.rsplit_once("mod "));
        if let Some((before, name)) = item
            && !before.ends_with(is_word)
            && name.chars().all(is_word)
        {
            modules.push(name.to_owned());
        }
        let blank: String =
            code[start..end].bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }).collect();
        code.replace_range(start..end, &blank);
    }
    (code, modules)
}

/// Whether the code after an attribute is an item, and not a field or a match arm. Commas inside
/// of `<…>` do not end an item.
fn is_item(code: &str) -> bool {
    const VISIBILITY: [&str; 6] = ["", "pub", "crate", "super", "self", "in"];
    const ITEMS: [&str; 13] = [
        "async", "const", "enum", "extern", "fn", "impl", "mod", "static", "struct", "trait",
        "type", "unsafe", "use",
    ];
    let mut code = code.trim_start();
    while let Some(attribute) = code.strip_prefix("#[") {
        code = attribute.split_once(']').map_or("", |(_, rest)| rest.trim_start());
    }
    let first = code.split(|c| !is_word(c)).find(|word| !VISIBILITY.contains(word));
    first.is_some_and(|word| ITEMS.contains(&word))
}

/// The code with blanks for comments and literals, of the same length in bytes and lines. A path in
/// a literal after `=`, as in `#[serde(with = "crate::…")]`, is code.
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
        let length = token(text, at);
        if bytes[at] == b'"' && is_path(&bytes[..at], &bytes[at..at + length]) {
            blank(at, at + 1);
            blank(at + length - 1, at + length);
        } else {
            blank(at, at + length);
        }
        at += length.max(1);
    }
    String::from_utf8(out).unwrap()
}

/// The length of the comment or literal at the position; 0 if another token is there.
pub fn token(text: &str, at: usize) -> usize {
    let bytes = text.as_bytes();
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
    } else if rest.starts_with(b"/*") {
        text[at..].find("*/").map_or(rest.len(), |end| end + 2)
    } else if rest[0] == b'"' {
        quoted(rest)
    } else if rest[0] == b'r' && begins_word(&bytes[..at]) {
        raw(&text[at..]).unwrap_or(0)
    } else if rest[0] == b'\'' {
        // A character literal or a lifetime.
        match text[at + 1..].chars().next() {
            Some('\\') => text[at + 3..].find('\'').map_or(0, |end| end + 4),
            Some(c) if text[at + 1 + c.len_utf8()..].starts_with('\'') => 2 + c.len_utf8(),
            _ => 0,
        }
    } else {
        0
    }
}

/// Whether a literal is a path of two names or more, and stands after `=`.
fn is_path(before: &[u8], literal: &[u8]) -> bool {
    before.trim_ascii_end().ends_with(b"=")
        && literal.windows(2).any(|pair| pair == b"::")
        && literal[1..literal.len() - 1]
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_:<>".contains(byte))
}

/// Whether a word begins after `before`, which may end with the prefix `b` or `c` of a literal.
fn begins_word(before: &[u8]) -> bool {
    let before = match before {
        [before @ .., b'b' | b'c'] => before,
        before => before,
    };
    before.last().is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_')
}

/// The length of the raw string literal at the beginning, if there is one.
fn raw(text: &str) -> Option<usize> {
    let hashes = text[1..].bytes().take_while(|byte| *byte == b'#').count();
    let inside = text[1 + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(text.len() - inside.len() + inside.find(&end)? + end.len())
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
