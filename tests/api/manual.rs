//! Generated and checked texts: completions, manual pages, and the pages of `docs` that come from
//! the program or must agree with it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::process::Home;

/// Every command, such as `["app", "create"]`, read from the help.
fn commands(home: &Home, above: &[String]) -> Vec<Vec<String>> {
    let mut arguments: Vec<&str> = above.iter().map(String::as_str).collect();
    arguments.push("--help");
    let help = home.run(&arguments).ok().stdout;
    let Some((_, listed)) = help.split_once("Commands:\n") else {
        return Vec::new();
    };
    let names = listed
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help");
    let mut found = Vec::new();
    for name in names {
        let command = [above, &[name.to_owned()]].concat();
        found.push(command.clone());
        found.extend(commands(home, &command));
    }
    found
}

/// The complaints of a checking program about these files; `None` if the program is not installed.
fn accepted(program: &str, arguments: &[&str], files: &[&Path]) -> Option<String> {
    let done = Command::new(program).args(arguments).args(files).stdin(Stdio::null()).output();
    let done = done.ok()?;
    let output = [done.stdout, done.stderr].concat();
    let output = String::from_utf8_lossy(&output).into_owned();
    Some(if done.status.success() { output } else { format!("{}: {output}", done.status) })
}

#[test]
fn shells_complete_every_command() {
    let home = Home::new();
    let commands = commands(&home, &[]);
    assert!(commands.len() > 30 && commands.contains(&vec!["app".into(), "create".into()]));
    for (shell, check) in [
        ("bash", &["-n"][..]),
        ("zsh", &["-n"]),
        ("fish", &["--no-execute"]),
        ("powershell", &[]),
        ("elvish", &[]),
    ] {
        let script = home.run(&["completions", shell]).ok().stdout;
        for name in commands.iter().flatten() {
            assert!(script.contains(name.as_str()), "no {name} for {shell}");
        }
        for option in ["--app-id", "--callback-token", "--json", "--live", "--config"] {
            let option = if shell == "fish" { &option[2..] } else { option };
            assert!(script.contains(option), "no {option} for {shell}");
        }
        let file = home.parent.join(shell);
        std::fs::write(&file, script).unwrap();
        if !check.is_empty()
            && let Some(output) = accepted(shell, check, &[&file])
        {
            assert_eq!(output, "", "{shell}");
        }
    }
    home.run(&["completions", "dos"]).fails(2, &["bash, elvish, fish, powershell, zsh"]);
    assert!(!home.data_dir.exists(), "these commands need no database");
}

#[test]
fn every_command_has_a_manual_page() {
    let mut home = Home::new();
    // An invalid configuration does not matter here.
    home.set("MUSTER__SERVER__BIND", "nowhere");
    let directory = home.parent.join("share/man/man1");
    home.run(&["man", directory.to_str().unwrap()]).ok();
    let mut expected: BTreeSet<String> = ["muster.1".to_owned()].into();
    expected.extend(commands(&home, &[]).iter().map(|one| format!("muster-{}.1", one.join("-"))));
    let mut found = BTreeSet::new();
    for page in std::fs::read_dir(&directory).unwrap() {
        let page = page.unwrap().path();
        let text = std::fs::read_to_string(&page).unwrap();
        assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{text}");
        if let Some(output) = accepted("mandoc", &["-T", "lint", "-W", "error"], &[&page]) {
            assert_eq!(output, "", "{}", page.display());
        }
        found.insert(page.file_name().unwrap().to_str().unwrap().to_owned());
    }
    assert_eq!(found, expected);
    let page = std::fs::read_to_string(directory.join("muster-app-create.1")).unwrap();
    assert!(page.contains("callback"), "{page}");
    home.run(&["man", "/dev/null/man"]).fails(1, &["cannot write manual pages into /dev/null/man"]);
}

/// Enclose the generated part of a page.
const BEGIN: &str = "<!-- generated: begin -->\n";
const END: &str = "<!-- generated: end -->\n";

/// The width of the generated help, in columns.
const WIDTH: &str = "100";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The README leads to the pages, and repeats no page.
const MAX_README_LINES: usize = 150;

#[test]
fn readme_is_short() {
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    let lines = text.lines().count();
    assert!(lines <= MAX_README_LINES, "README.md: at most {MAX_README_LINES} lines, got {lines}");
}

/// The pages of the documentation, with their texts.
pub fn pages() -> Vec<(PathBuf, String)> {
    let mut directories = vec![root().join("docs")];
    let mut found = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found.sort();
    found
}

/// Checks that the generated part of a page is `expected`. Writes the page instead if
/// `MUSTER_UPDATE_DOCS=1`.
#[track_caller]
fn assert_current(page: &str, expected: &str) {
    let path = root().join(page);
    let text = std::fs::read_to_string(&path).unwrap();
    let parts = text.split_once(BEGIN).and_then(|(head, rest)| {
        rest.split_once(END).map(|(generated, tail)| (head, generated, tail))
    });
    let (head, generated, tail) = parts.unwrap_or_else(|| panic!("{page}: no {BEGIN}… {END}"));
    if generated == expected {
        return;
    }
    if std::env::var("MUSTER_UPDATE_DOCS").is_ok_and(|value| value == "1") {
        std::fs::write(&path, [head, BEGIN, expected, END, tail].concat()).unwrap();
        return;
    }
    let same = generated.lines().zip(expected.lines()).take_while(|(old, new)| old == new).count();
    panic!(
        "{page} is stale: run `MUSTER_UPDATE_DOCS=1 cargo test --test api manual::`\n\
         line {} of its generated part is {:?}, expected {:?}",
        same + 1,
        generated.lines().nth(same),
        expected.lines().nth(same),
    );
}

/// A key of the configuration, with its comment in `config/default.toml`.
struct Setting {
    table: String,
    key: String,
    default: String,
    meaning: String,
}

impl Setting {
    /// The table and the key.
    fn path(&self) -> String {
        if self.table.is_empty() {
            self.key.clone()
        } else {
            format!("{}.{}", self.table, self.key)
        }
    }
}

/// All keys, in the order of the file.
fn settings() -> Vec<Setting> {
    let text = std::fs::read_to_string(root().join("config/default.toml")).unwrap();
    let (mut table, mut meaning) = (String::new(), String::new());
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix('#') {
            meaning.push_str(comment.strip_prefix(' ').unwrap_or(comment));
            meaning.push('\n');
        } else if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut table);
        } else if let Some((key, default)) = line.split_once(" = ") {
            let (key, default) = (key.to_owned(), default.to_owned());
            let meaning = std::mem::take(&mut meaning);
            assert!(!meaning.is_empty(), "{key}: the key has no comment");
            found.push(Setting { table: table.clone(), key, default, meaning });
        } else {
            assert_eq!(line, "", "neither a comment, a table nor a key with its default");
            // A comment without a key is about the file.
            meaning.clear();
        }
    }
    found
}

/// A comment as Markdown: quoted values and names become code.
fn marked_up(comment: &str, keys: &BTreeSet<String>) -> String {
    let mut text = String::new();
    let mut rest = comment;
    while let Some(first) = rest.chars().next() {
        let quoted = |open: &str, close: &str| {
            let inside = rest.strip_prefix(open)?;
            inside.find(close).map(|end| open.len() + end + close.len())
        };
        let name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        if let Some(length) = quoted("`", "`") {
            text.push_str(&rest[..length]);
            rest = &rest[length..];
        } else if let Some(length) = quoted("[\"", "\"]").or_else(|| quoted("\"", "\"")) {
            write!(text, "`{}`", &rest[..length]).unwrap();
            rest = &rest[length..];
        } else if name(first) {
            let length = rest.find(|c| !name(c)).unwrap_or(rest.len());
            let word = rest[..length].trim_end_matches('.');
            if word.contains('_') || keys.contains(word) {
                write!(text, "`{word}`").unwrap();
            } else {
                text.push_str(word);
            }
            text.push_str(&rest[word.len()..length]);
            rest = &rest[length..];
        } else {
            text.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    text
}

#[test]
fn configuration_page_is_current() {
    let settings = settings();
    let keys: BTreeSet<String> = settings.iter().map(Setting::path).collect();
    assert!(keys.len() > 50 && keys.contains("server.bind"));
    let mut page = String::new();
    let mut table = None;
    for setting in &settings {
        if table.replace(&setting.table) != Some(&setting.table) {
            let title = if setting.table.is_empty() { "general" } else { &setting.table };
            write!(page, "\n## {title}\n").unwrap();
        }
        let path = setting.path();
        let variable = format!("MUSTER__{}", path.replace('.', "__").to_uppercase());
        let meaning = marked_up(&setting.meaning, &keys);
        let default = &setting.default;
        write!(page, "\n### {path}\n\nDefault `{default}`, environment `{variable}`.\n\n{meaning}")
            .unwrap();
    }
    page.push('\n');
    assert_current("docs/operate/configuration.md", &page);
}

#[test]
fn command_line_page_is_current() {
    let mut home = Home::new();
    home.set("COLUMNS", WIDTH);
    let mut all = vec![Vec::new()];
    all.extend(commands(&home, &[]));
    let (mut table, mut sections) = (String::new(), String::new());
    for command in &all {
        let name = [&["muster".to_owned()], &command[..]].concat().join(" ");
        let mut arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        arguments.push("--help");
        let help = home.run(&arguments).ok().stdout;
        let about: Vec<&str> = help.lines().take_while(|line| !line.is_empty()).collect();
        let about = about.join(" ").replace('|', "\\|");
        writeln!(table, "| [`{name}`](#{}) | {about} |", name.replace(' ', "-")).unwrap();
        write!(sections, "\n## {name}\n\n```text\n").unwrap();
        for line in help.lines() {
            writeln!(sections, "{}", line.trim_end()).unwrap();
        }
        sections.push_str("```\n");
    }
    let page = format!("\n| command | purpose |\n| --- | --- |\n{table}{sections}\n");
    assert_current("docs/operate/command-line.md", &page);
}

/// The texts between backticks, each on one line.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

#[test]
fn pages_name_only_keys_that_exist() {
    let settings = settings();
    // Administrative actions have names of the same form.
    let acts = Home::new().run(&["audit", "list", "--help"]).ok().stdout;
    let keys: BTreeSet<String> = settings.iter().map(Setting::path).collect();
    let tables: BTreeSet<&str> = settings.iter().map(|setting| setting.table.as_str()).collect();
    let is_name = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    for (path, text) in pages() {
        for word in code(&text) {
            let word = word.split(" = ").next().unwrap();
            if let Some((table, key)) = word.split_once('.')
                && !table.is_empty()
                && tables.contains(table)
                && is_name(key)
                && !["rs", "md", "toml"].contains(&key)
            {
                let known = keys.contains(word) || acts.contains(word);
                assert!(known, "{}: no key is called {word}", path.display());
            }
        }
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if let Some(name) = word.strip_prefix("MUSTER__") {
                let key = name.strip_suffix("_FILE").unwrap_or(name).to_lowercase();
                let key = key.replace("__", ".");
                let known = keys.contains(&key) || keys.contains(&format!("{key}_file"));
                assert!(known || key.is_empty(), "{}: {word} sets no key", path.display());
            }
        }
    }
}

#[test]
fn the_page_of_error_codes_has_every_problem_code_and_no_other() {
    let description = std::fs::read_to_string(root().join("openapi.json")).unwrap();
    let description: Value = serde_json::from_str(&description).unwrap();
    let codes = description["components"]["schemas"]["Code"]["enum"].as_array().unwrap();
    let codes: BTreeSet<&str> = codes.iter().map(|code| code.as_str().unwrap()).collect();
    let page = std::fs::read_to_string(root().join("docs/api/error-codes.md")).unwrap();
    let (_, page) = page.split_once("## Problem codes").unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let listed: BTreeSet<&str> = rows.filter_map(|row| row.split('`').next()).collect();
    assert_eq!(listed, codes);
}

#[test]
fn the_page_of_v1_has_every_operation_and_no_other() {
    let expected: BTreeSet<String> = crate::v1::operations()
        .iter()
        .map(|(method, path, _)| format!("{method} {}", path.replace("{sessionId}", "{id}")))
        .collect();
    let page = std::fs::read_to_string(root().join("docs/api/v1.md")).unwrap();
    let (_, page) = page.split_once("## Endpoints").unwrap();
    let (page, _) = page.split_once("\n## ").unwrap();
    let mut listed = BTreeSet::new();
    for row in page.lines().filter_map(|line| line.strip_prefix("| `")) {
        // `GET`, `PUT …/members`: several methods of one path. `…` is the path of a session.
        let mut methods = Vec::new();
        let (cell, _) = row.split_once(" | ").unwrap();
        for text in cell.split('`').step_by(2).filter(|text| !text.is_empty()) {
            let (method, path) = text.split_once(' ').unwrap_or((text, ""));
            methods.push(method);
            if !path.is_empty() {
                let path = path.replace('…', "/v1/sessions/{id}");
                listed.extend(methods.drain(..).map(|method| format!("{method} {path}")));
            }
        }
        assert!(methods.is_empty(), "{row}: a method without a path");
    }
    assert_eq!(listed, expected);
}
