//! The lists of tables in `docs/development/design.md` are those of the migrations, and large
//! tables keep the rules of that page: unique keys with the session id, no triggers, no foreign
//! keys.

use std::collections::{BTreeMap, BTreeSet};

use super::fail_on;

const PAGE: &str = include_str!("../../../docs/development/design.md");

/// A unique key: its table, and its columns as the statement lists them.
type Key = (String, String);

#[derive(Default)]
struct Schema {
    tables: BTreeSet<String>,
    /// The unique keys by the names of their constraints or indexes.
    keys: BTreeMap<String, Key>,
    /// Tables with a trigger or with a foreign key.
    linked: BTreeSet<String>,
}

impl Schema {
    /// Reads statements that have a name for each key, as all migrations do.
    fn read(sql: &str) -> Self {
        let mut schema = Self::default();
        let code: Vec<&str> =
            sql.lines().map(|line| line.split_once("--").map_or(line, |(code, _)| code)).collect();
        for statement in code.join(" ").split(';') {
            let words: Vec<&str> = statement.split_whitespace().collect();
            schema.apply(&words);
        }
        schema
    }

    fn apply(&mut self, words: &[&str]) {
        let table_after = |word: &str| {
            let at = words.iter().position(|found| *found == word);
            at.and_then(|at| words.get(at + 1)).map(|name| (*name).to_owned())
        };
        match words {
            ["create", "table", table, ..] => {
                self.tables.insert((*table).to_owned());
                self.constraints(table, words);
            }
            ["alter", "table", table, ..] => {
                for pair in words.windows(3) {
                    if let ["drop", "constraint", name] = pair {
                        self.keys.remove(name.trim_end_matches(','));
                    }
                }
                self.constraints(table, words);
            }
            ["drop", "table", table] => {
                self.tables.remove(*table);
                self.keys.retain(|_, (of, _)| of != table);
            }
            ["drop", "index", name] => {
                self.keys.remove(*name);
            }
            ["create", "unique", "index", "concurrently", name, ..]
            | ["create", "unique", "index", name, ..] => {
                let table = table_after("on").expect("an index is on a table");
                self.keys.insert((*name).to_owned(), (table, columns(words)));
            }
            ["create", "trigger" | "constraint", ..] => {
                self.linked.insert(table_after("on").expect("a trigger is on a table"));
            }
            _ => {}
        }
    }

    fn constraints(&mut self, table: &str, words: &[&str]) {
        if words.contains(&"references") {
            self.linked.insert(table.to_owned());
        }
        for (at, word) in words.iter().enumerate() {
            let is_key = matches!(&words[at..], ["primary", "key", ..]) || *word == "unique";
            if is_key {
                assert_eq!(words[at - 2], "constraint", "a key of {table} has no name");
                let index = words[at..].iter().position(|word| *word == "using");
                let key = match index.and_then(|index| words.get(at + index + 2)) {
                    // The index gets the name of the constraint.
                    Some(index) => self.keys.remove(*index).expect("a key uses a unique index"),
                    None => (table.to_owned(), columns(&words[at..])),
                };
                self.keys.insert(words[at - 1].to_owned(), key);
            }
        }
    }

    /// The mistakes of a page: its lists differ from the schema, or a large table breaks a rule.
    fn mistakes(&self, page: &str) -> Vec<String> {
        let [large, small] = ["large", "small"].map(|size| tables_of(page, size));
        let mut mistakes = Vec::new();
        for table in self.tables.difference(&(&large | &small)) {
            mistakes.push(format!("{table}: the page lists it neither as large nor as small"));
        }
        for table in (&large | &small).difference(&self.tables) {
            mistakes.push(format!("{table}: no migration makes this table"));
        }
        for table in large.intersection(&self.linked) {
            mistakes.push(format!("{table}: a large table has a trigger or a foreign key"));
        }
        let exceptions = exceptions_of(page);
        let without_session: BTreeSet<Key> = self
            .keys
            .values()
            .filter(|(table, columns)| {
                large.contains(table) && !columns.split(", ").any(|name| name == "session_id")
            })
            .cloned()
            .collect();
        for (table, columns) in without_session.difference(&exceptions) {
            mistakes.push(format!("{table} ({columns}): a unique key without session_id"));
        }
        for (table, columns) in exceptions.difference(&without_session) {
            mistakes.push(format!("{table} ({columns}): not a unique key without session_id"));
        }
        mistakes
    }
}

/// The columns in the first parentheses.
fn columns(words: &[&str]) -> String {
    let text = words.join(" ");
    let inside = text.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
    inside.expect("a key lists its columns").0.to_owned()
}

/// The cells of a row, without the backticks. `None` if the line is no row of a table.
fn cells(line: &str) -> Option<Vec<String>> {
    let row = line.trim_start().strip_prefix("| ")?.strip_suffix(" |")?;
    Some(row.split(" | ").map(|cell| cell.replace('`', "")).collect())
}

/// The tables in the row of their size.
fn tables_of(page: &str, size: &str) -> BTreeSet<String> {
    let row = page.lines().filter_map(cells).find(|row| row[0] == size);
    let row = row.unwrap_or_else(|| panic!("the page has no row for {size} tables"));
    row.last().unwrap().split(", ").map(str::to_owned).collect()
}

/// The rows of the table of exceptions: table and columns of a unique key.
fn exceptions_of(page: &str) -> BTreeSet<Key> {
    page.lines()
        .map(cells)
        .skip_while(|row| row.as_ref().is_none_or(|row| row[0] != "large table"))
        .skip(2)
        .map_while(|row| row)
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect()
}

fn migrations() -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let texts: Vec<String> =
        files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    texts.join("\n")
}

#[test]
fn design_lists_the_tables_and_exceptions_of_the_migrations() {
    fail_on(&Schema::read(&migrations()).mistakes(PAGE));
}

#[test]
fn tables_that_break_a_rule_of_the_design_are_found() {
    const PAGE: &str = "| large | `one`, `two`, `gone` |\n| small | `tiny` |\n\n\
                        | large table | unique key | reason |\n| --- | --- | --- |\n\
                        | `one` | `a, b` | why |\n| `two` | `c` | why |\n";
    let sql = "create table one (a int, constraint one_pkey primary key (a, b)); -- create table x (\n\
               create table two (c int, constraint two_pkey primary key (session_id, c),\n\
               constraint two_a unique (a), constraint two_c unique (c));\n\
               create table tiny (e int, constraint tiny_pkey primary key (e));\n\
               create table extra (f int); create table gone (g int); drop table gone;\n\
               create unique index two_d on two (d); alter table two drop constraint two_c,\n\
               add constraint two_e unique using index two_d;\n\
               create trigger changed after insert or update of a on two for each row;\n\
               alter table one add constraint one_fkey foreign key (a) references tiny (e);";
    let found = Schema::read(sql).mistakes(PAGE);
    assert_eq!(
        found,
        [
            "extra: the page lists it neither as large nor as small",
            "gone: no migration makes this table",
            "one: a large table has a trigger or a foreign key",
            "two: a large table has a trigger or a foreign key",
            "two (a): a unique key without session_id",
            "two (d): a unique key without session_id",
            "two (c): not a unique key without session_id",
        ]
    );
}
