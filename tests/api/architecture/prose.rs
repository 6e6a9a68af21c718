//! The subject of a sentence is a noun: no sentence begins with a word such as *what* or *nobody*.
//!
//! The rule of `docs/development/style.md` holds for comments, Markdown, alerts, dashboards, units of
//! systemd, and the literals of `src`, which have the error texts. A sentence begins with its text, and
//! after a full stop, a colon or a semicolon. Questions are allowed, and so is text in code font.

use std::fs;
use std::path::{Path, PathBuf};

use super::fail_on;
use super::source::{is_word, token};

/// Words with which no sentence begins.
const NO_SUBJECTS: [&str; 4] = ["who", "whom", "what", "none"];
/// Words with which no sentence of the manual and the configuration begins. Comments in the source may say
/// "Whether …" of a value that is true or false.
const NO_SUBJECTS_OF_PAGES: [&str; 2] = ["how", "whether"];
/// Words that no sentence has.
const NOT_IN_SENTENCES: [&str; 11] = [
    "whoever",
    "whomever",
    "whatever",
    "whichever",
    "nobody",
    "somebody",
    "anybody",
    "everybody",
    "someone",
    "anyone",
    "everyone",
];

/// The folders of the repository with texts.
const ROOTS: [&str; 9] =
    [".", ".ci", "benches", "config", "docs", "examples", "fuzz", "migrations", "tests"];
/// The page of the rule and its test, and a page that the benchmarks write.
const EXEMPT: [&str; 3] =
    ["docs/development/style.md", "tests/api/architecture/prose.rs", "benches/RESULTS.md"];

/// A text of consecutive lines: a paragraph, an item of a list, a cell of a table, a literal.
#[derive(Default)]
struct Block {
    text: String,
    /// The offset of each line in the text, and its number.
    lines: Vec<(usize, usize)>,
}

impl Block {
    fn push(&mut self, line: usize, text: &str) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.lines.push((self.text.len(), line));
        self.text.push_str(text.trim());
    }

    fn line(&self, at: usize) -> usize {
        self.lines.iter().rev().find(|(start, _)| *start <= at).map_or(0, |(_, line)| *line)
    }

    /// The words that the rule forbids, with their lines. `is_page`: the text is in the manual or the
    /// configuration.
    fn mistakes(&self, is_page: bool) -> Vec<(usize, String)> {
        let text = without_code(&self.text);
        let mut found = Vec::new();
        let mut is_start = true;
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            if length == 0 {
                let c = rest.chars().next().unwrap();
                let is_end = matches!(c, '.' | ':' | ';' | '?' | '!');
                let after = &rest[c.len_utf8()..];
                if is_end && after.trim_start_matches(['*', '"', ')']).starts_with(' ') {
                    is_start = true;
                } else if !matches!(c, ' ' | '*' | '_' | '(' | '"' | '\'') {
                    is_start = false;
                }
                at += c.len_utf8();
                continue;
            }
            let word = rest[..length].to_lowercase();
            let (starts, after) = (std::mem::take(&mut is_start), &rest[length..]);
            if NOT_IN_SENTENCES.contains(&word.as_str()) {
                found.push((self.line(at), format!("a text has the word `{word}`")));
            } else if starts && is_no_subject(&word, is_page) && is_sentence(after) {
                found.push((self.line(at), format!("a sentence begins with `{word}`")));
            }
            at += length;
        }
        found
    }
}

/// Whether no sentence may begin with a word.
fn is_no_subject(word: &str, is_page: bool) -> bool {
    NO_SUBJECTS.contains(&word) || is_page && NO_SUBJECTS_OF_PAGES.contains(&word)
}

/// Whether a file belongs to the manual or the configuration.
fn is_page(name: &str) -> bool {
    name.starts_with("docs/") || name.starts_with("config/")
}

/// Whether the text after a word makes it a sentence that is no question.
fn is_sentence(after: &str) -> bool {
    let after = after.trim_start_matches(['*', '_']);
    let end = after.find(['.', '?', '!']);
    after.starts_with([' ', ',', ':', ';']) && end.is_none_or(|end| !after[end..].starts_with('?'))
}

/// The text with blanks for code font, of the same length.
fn without_code(text: &str) -> String {
    let mut is_code = false;
    text.chars()
        .map(|c| {
            is_code ^= c == '`';
            if is_code && c != ' ' { "-".repeat(c.len_utf8()) } else { c.to_string() }
        })
        .collect()
}

/// The blocks of lines of prose, such as Markdown, or comments without their marks.
#[derive(Default)]
struct Paragraphs {
    blocks: Vec<Block>,
    current: Block,
    is_fenced: bool,
}

impl Paragraphs {
    fn line(&mut self, number: usize, text: &str) {
        let trimmed = text.trim();
        if trimmed.starts_with("```") || trimmed.starts_with("~~~") {
            self.is_fenced = !self.is_fenced;
            self.end();
        } else if self.is_fenced || text.starts_with("    ") && self.current.text.is_empty() {
            // Code.
        } else if let Some(row) = trimmed.strip_prefix('|') {
            for cell in row.split('|') {
                self.end();
                self.current.push(number, cell);
            }
            self.end();
        } else if trimmed.is_empty() || trimmed.starts_with('#') {
            self.end();
        } else {
            let item = trimmed.strip_prefix("- ").or_else(|| trimmed.strip_prefix("* "));
            let numbered = trimmed.split_once(". ");
            let numbered = numbered.filter(|(head, _)| head.bytes().all(|b| b.is_ascii_digit()));
            let item = item.or(numbered.map(|(_, item)| item));
            if item.is_some() {
                self.end();
            }
            self.current.push(number, item.unwrap_or(trimmed));
        }
    }

    fn end(&mut self) {
        self.blocks.push(std::mem::take(&mut self.current));
    }

    fn finish(mut self) -> Vec<Block> {
        self.end();
        self.blocks
    }
}

/// The texts of a file. A file of another kind has none.
fn blocks(name: &str, text: &str) -> Vec<Block> {
    let lines = || text.lines().enumerate().map(|(index, line)| (index + 1, line));
    let mut paragraphs = Paragraphs::default();
    let extension = Path::new(name).extension().map_or("", |end| end.to_str().unwrap());
    match extension {
        "md" => lines().for_each(|(number, line)| paragraphs.line(number, line)),
        "rs" => {
            let mut literals = Vec::new();
            comments(text, &mut paragraphs, &mut literals);
            let mut blocks = paragraphs.finish();
            if name.starts_with("src/") {
                blocks.extend(literals);
            }
            return blocks;
        }
        // A dashboard: each text is a line of its own.
        "json" if name.starts_with("config/") => {
            for (number, line) in lines() {
                let text = ["\"title\": \"", "\"description\": \""]
                    .into_iter()
                    .find_map(|field| line.trim_start().strip_prefix(field));
                paragraphs.end();
                if let Some(text) = text {
                    paragraphs.current.push(number, text.trim_end_matches(['"', ',']));
                }
            }
        }
        "sql" | "toml" | "yml" | "yaml" | "py" | "service" | "socket" | "timer" | "conf" | "" => {
            let mark = if extension == "sql" { "--" } else { "#" };
            for (number, line) in lines() {
                match line.trim_start().strip_prefix(mark) {
                    Some(comment) => paragraphs.line(number, comment.trim_start()),
                    None => {
                        paragraphs.end();
                        let value = match extension {
                            "yml" => line.split_once(": \"").map(|(_, value)| value),
                            _ => line.strip_prefix("Description="),
                        };
                        if let Some(value) = value {
                            paragraphs.current.push(number, value.trim_end_matches('"'));
                            paragraphs.end();
                        }
                    }
                }
            }
        }
        _ => {}
    }
    paragraphs.finish()
}

/// The comments and the literals of a Rust source.
fn comments(text: &str, paragraphs: &mut Paragraphs, literals: &mut Vec<Block>) {
    let (mut at, mut line, mut last) = (0, 1, 0);
    while at < text.len() {
        let length = token(text, at);
        let part = &text[at..at + length.max(1)];
        if let Some(comment) = part.strip_prefix("//") {
            let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
            if line > last + 1 || !text[start..at].trim().is_empty() {
                paragraphs.end();
            }
            last = line;
            let comment = comment.trim_start_matches(['/', '!']);
            paragraphs.line(line, comment.strip_prefix(' ').unwrap_or(comment));
        } else if length > 2 && part.contains(' ') {
            let mut block = Block::default();
            let inside = part.trim_start_matches('r').trim_matches(['#', '"']);
            for (index, text) in inside.lines().enumerate() {
                block.push(line + index, text.trim_end_matches('\\'));
            }
            literals.push(block);
        }
        line += part.matches('\n').count();
        at += length;
        if length == 0 {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
}

/// The mistakes of a file.
fn mistakes(name: &str, text: &str) -> Vec<String> {
    let found = blocks(name, text).into_iter().flat_map(|block| block.mistakes(is_page(name)));
    found.map(|(line, reason)| format!("{name}:{line}: {reason}: begin with a noun")).collect()
}

/// The files with texts below a folder. The root has many folders of other kinds.
fn files(folder: &Path, is_root: bool, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            found.push(path);
        } else if !is_root && !path.ends_with("node_modules") && !path.ends_with("target") {
            files(&path, false, found);
        }
    }
}

#[test]
fn subject_of_a_sentence_is_a_noun() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in ROOTS.into_iter().chain(["src"]) {
        files(&root.join(folder), folder == ".", &mut found);
    }
    assert!(found.len() > 500, "{}", found.len());
    let mut all = Vec::new();
    for path in found {
        let path = path.strip_prefix(root).unwrap();
        let name = path.to_str().unwrap().trim_start_matches("./");
        if !EXEMPT.contains(&name)
            && let Ok(text) = fs::read_to_string(root.join(path))
        {
            all.extend(mistakes(name, &text));
        }
    }
    fail_on(&all);
}

#[test]
fn sentences_without_a_noun_are_found() {
    for (name, text, lines) in [
        ("docs/a.md", "# What next?\n\nText.\nWhat is\nread: who asks. Why? What now?", vec![4, 5]),
        ("docs/a.md", "- **None** of them.\n- none\n2. Nobody knows.", vec![1, 3]),
        ("docs/a.md", "| a | what is wrong |\n| --- | --- |\n| none | it |", vec![1]),
        ("docs/a.md", "```text\nwhat it is\n```\n\n    who: me\n\nThe user `nobody`.", vec![]),
        (
            "src/a.rs",
            "/// Text.\n/// Whoever asks.\nfn f() { g(\"x: what it\\\n needs\") }",
            vec![2, 3],
        ),
        (
            "src/a.rs",
            "//! `None`: no\n//! more. What it\nconst C: char = '\"'; // Who is it.",
            vec![2, 3],
        ),
        ("tests/a.rs", "f(\"what is it\", r#\"who\"#); g(\"for everyone\")", vec![]),
        ("migrations/1.sql", "-- The key.\n-- What it is.\nselect 'nobody knows'", vec![2]),
        ("config/a.yml", "a: \"Somebody sends\"\n# Text; what is it", vec![1, 2]),
        ("config/a.service", "# Who is it.\n[Unit]\nDescription=What it is", vec![1, 3]),
        (
            "config/a.json",
            "{\n  \"title\": \"Text\",\n  \"description\": \"Text. How it is.\"\n}",
            vec![3],
        ),
        ("a.json", "{\n  \"title\": \"What it is\"\n}", vec![]),
        (
            "config/a.toml",
            "# How long it lasts.\n# It asks how long.\n\n# Whether it is on.",
            vec![1, 4],
        ),
        ("docs/a.md", "How long is it?\n\n- whether it is on", vec![3]),
        ("src/a.rs", "/// Whether it is on.", vec![]),
        ("justfile", "# what a recipe does\nwhat: who", vec![1]),
    ] {
        let found: Vec<usize> = blocks(name, text)
            .iter()
            .flat_map(|block| block.mistakes(is_page(name)))
            .map(|(line, _)| line)
            .collect();
        assert_eq!(found, lines, "{text}");
    }
}
