//! Reads the script that `pg_restore` writes: rows of tables, and the state of sequences.
//!
//! No line of the script is executed. A line is recognized completely, or the script is refused. The
//! statements that load the rows are made by this program.

use std::io::{self, BufRead, Read as _};

/// The maximum length of a line. A row is one line, and rows of Muster are much shorter.
const MAX_LINE_BYTES: u64 = 64 << 20;
/// The start of a statement that rows follow.
const COPY: &str = "COPY ";
/// The start of a statement that sets a sequence.
const SETVAL: &str = "SELECT pg_catalog.setval('";
/// The size of a piece of rows.
const CHUNK_BYTES: usize = 1 << 18;

/// A part of a script, in the order of the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ScriptPart {
    /// The rows of a table follow.
    Table {
        /// The name of the table, without its schema.
        name: String,
        /// The columns of each row.
        columns: Vec<String>,
    },
    /// Complete lines of rows in the text format of `copy`.
    Rows(Vec<u8>),
    /// The rows of the table are complete.
    TableEnd,
    /// The state of a sequence.
    Sequence {
        /// The name of the sequence, without its schema.
        name: String,
        /// The last value.
        last: i64,
        /// Whether the last value was given out.
        is_called: bool,
    },
}

/// The reason why a script was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScriptError {
    /// The script cannot be read.
    #[error("cannot read the rows")]
    Io(#[from] io::Error),
    /// The script has an unknown line.
    #[error("it contains the unexpected statement {0:?}")]
    Unexpected(String),
    /// A row is too long.
    #[error("a row has more than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// The script ends inside of a table.
    #[error("the rows of a table are incomplete")]
    Incomplete,
    /// The receiver of the parts has failed.
    #[error("the rows were not accepted")]
    Closed,
}

/// Reads a script, and passes its parts to `emit` until it returns `false`.
pub(super) fn read(
    script: &mut impl BufRead,
    mut emit: impl FnMut(ScriptPart) -> bool,
) -> Result<(), ScriptError> {
    let mut pass = |part| if emit(part) { Ok(()) } else { Err(ScriptError::Closed) };
    let mut line = Vec::new();
    while read_statement(script, &mut line)? {
        let text = String::from_utf8_lossy(&line);
        match statement(text.trim_end_matches('\n')) {
            Some(Statement::Ignored) => {}
            Some(Statement::Sequence(part)) => pass(part)?,
            Some(Statement::Copy(table)) => {
                let is_known = table.is_some();
                if let Some(table) = table {
                    pass(table)?;
                }
                read_rows(script, |rows| if is_known { pass(rows) } else { Ok(()) })?;
            }
            None => {
                return Err(ScriptError::Unexpected(text.trim_end().chars().take(100).collect()));
            }
        }
    }
    Ok(())
}

/// Reads the rows of a table.
fn read_rows(
    script: &mut impl BufRead,
    mut pass: impl FnMut(ScriptPart) -> Result<(), ScriptError>,
) -> Result<(), ScriptError> {
    let (mut line, mut chunk) = (Vec::new(), Vec::with_capacity(2 * CHUNK_BYTES));
    loop {
        if !read_line(script, &mut line)? {
            return Err(ScriptError::Incomplete);
        }
        let is_end = line == b"\\.\n";
        if !is_end {
            chunk.extend_from_slice(&line);
        }
        if chunk.len() >= CHUNK_BYTES || (is_end && !chunk.is_empty()) {
            let next = Vec::with_capacity(if is_end { 0 } else { 2 * CHUNK_BYTES });
            pass(ScriptPart::Rows(std::mem::replace(&mut chunk, next)))?;
        }
        if is_end {
            return pass(ScriptPart::TableEnd);
        }
    }
}

/// Reads a statement with its end; `false` at the end of the script. A statement has several lines if
/// a name in it has line breaks.
fn read_statement(script: &mut impl BufRead, text: &mut Vec<u8>) -> Result<bool, ScriptError> {
    if !read_line(script, text)? {
        return Ok(false);
    }
    if text.starts_with(COPY.as_bytes()) || text.starts_with(SETVAL.as_bytes()) {
        // A quotation mark in a name is doubled.
        let is_odd = |text: &[u8]| text.iter().filter(|byte| **byte == b'"').count() % 2 == 1;
        let mut is_open = is_odd(text);
        while is_open {
            let start = text.len();
            if !append_line(script, text)? {
                break;
            }
            is_open ^= is_odd(&text[start..]);
        }
    }
    Ok(true)
}

/// Reads a line with its end; `false` at the end of the script.
fn read_line(script: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool, ScriptError> {
    line.clear();
    append_line(script, line)
}

/// Appends the next line with its end; `false` at the end of the script.
fn append_line(script: &mut impl BufRead, text: &mut Vec<u8>) -> Result<bool, ScriptError> {
    let room = MAX_LINE_BYTES.saturating_sub(text.len() as u64);
    let length = script.by_ref().take(room).read_until(b'\n', text)?;
    if length as u64 == room && text.last() != Some(&b'\n') {
        return Err(ScriptError::TooLong);
    }
    Ok(length > 0)
}

enum Statement {
    /// A comment or a setting.
    Ignored,
    Sequence(ScriptPart),
    /// Rows follow. `None` for a table without columns, such as no table of Muster is.
    Copy(Option<ScriptPart>),
}

/// The meaning of a line; `None` for any other line than `pg_restore --data-only` writes.
fn statement(line: &str) -> Option<Statement> {
    const SEARCH_PATH: &str = "SELECT pg_catalog.set_config('search_path', '', false);";
    let is_setting = line.starts_with("SET ") && line.ends_with(';');
    // Newer versions guard a script against other meta-commands of psql with these two.
    let is_guard = line.starts_with("\\restrict ") || line.starts_with("\\unrestrict ");
    if line.is_empty() || line.starts_with("--") || line == SEARCH_PATH || is_setting || is_guard {
        return Some(Statement::Ignored);
    }
    if let Some(text) = line.strip_prefix(COPY) {
        let text = text.strip_suffix(" FROM stdin;")?;
        return Some(Statement::Copy(table(text)));
    }
    let text = line.strip_prefix(SETVAL)?.strip_suffix(");")?;
    let (name, state) = text.rsplit_once("', ")?;
    let (last, is_called) = state.split_once(", ")?;
    let is_called = is_called.parse().ok()?;
    let last = last.parse().ok()?;
    // An apostrophe in the text is doubled.
    let name = name.replace("''", "'");
    let (name, end) = unqualified(&name)?;
    end.is_empty().then_some(Statement::Sequence(ScriptPart::Sequence { name, last, is_called }))
}

/// `schema.table (column, column)`.
fn table(text: &str) -> Option<ScriptPart> {
    let (name, rest) = unqualified(text)?;
    let columns = rest.strip_prefix(" (")?.strip_suffix(')')?;
    Some(ScriptPart::Table { name, columns: identifiers(columns)? })
}

/// Names of columns, joined by commas. Those of operators can be any text, in quotation marks.
fn identifiers(text: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = text;
    loop {
        let (name, end) = identifier(rest)?;
        names.push(name);
        if end.is_empty() {
            return Some(names);
        }
        rest = end.strip_prefix(", ")?;
    }
}

/// The name up to its closing quotation mark, and the text after it. A mark in the name is doubled.
fn quoted_identifier(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return (!name.is_empty()).then_some((name, after)),
        }
    }
}

/// The name after a schema at the start of a text, and the text after it.
fn unqualified(text: &str) -> Option<(String, &str)> {
    let (_, rest) = identifier(text)?;
    identifier(rest.strip_prefix('.')?)
}

/// The name at the start of a text, and the text after it. A name is plain, that is lower case letters,
/// digits and `_`, or any text in quotation marks.
fn identifier(text: &str) -> Option<(String, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        return quoted_identifier(quoted);
    }
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let length = text.bytes().take_while(|byte| is_plain(*byte)).count();
    let (name, rest) = text.split_at(length);
    (length > 0).then(|| (name.to_owned(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(script: &str) -> Result<Vec<ScriptPart>, String> {
        let mut parts = Vec::new();
        let result = read(&mut script.as_bytes(), |part| {
            parts.push(part);
            true
        });
        result.map(|()| parts).map_err(|error| error.to_string())
    }

    #[test]
    fn rows_and_sequences_are_read() {
        let script = "--\n-- PostgreSQL database dump\n--\n\n\\restrict a1\n\nSET lock_timeout = 0;\n\
             SELECT pg_catalog.set_config('search_path', '', false);\n\n\
             COPY public.session_member (session_id, \"position\") FROM stdin;\n\
             1\t\\\\.\n\\\\.\t2\n\\.\n\n\
             COPY public.\"Odd (table)\" (a) FROM stdin;\nrow\n\\.\n\
             COPY own.app (buin) FROM stdin;\n\\.\n\n\
             SELECT pg_catalog.setval('public.audit_audit_id_seq', 42, true);\n\\unrestrict a1\n";
        assert_eq!(
            parts(script).unwrap(),
            [
                ScriptPart::Table {
                    name: "session_member".to_owned(),
                    columns: vec!["session_id".to_owned(), "position".to_owned()],
                },
                ScriptPart::Rows(b"1\t\\\\.\n\\\\.\t2\n".to_vec()),
                ScriptPart::TableEnd,
                ScriptPart::Table { name: "Odd (table)".to_owned(), columns: vec!["a".to_owned()] },
                ScriptPart::Rows(b"row\n".to_vec()),
                ScriptPart::TableEnd,
                ScriptPart::Table { name: "app".to_owned(), columns: vec!["buin".to_owned()] },
                ScriptPart::TableEnd,
                ScriptPart::Sequence {
                    name: "audit_audit_id_seq".to_owned(),
                    last: 42,
                    is_called: true
                },
            ]
        );
    }

    #[test]
    fn schemas_columns_and_sequences_may_have_any_name() {
        for schema in ["own", "\"Own\"", "\"a.b (c\"", "\"a \"\"b\"\"\"", "\"a\n\nb\"", "\"', \""] {
            let sequence = format!("{schema}.\"app_\nn's_seq\"").replace('\'', "''");
            let script = format!(
                "COPY {schema}.app (a, \"x\ny (\"\"z\") FROM stdin;\n\"\n\\.\n\
                 SELECT pg_catalog.setval('{sequence}', 7, false);\n"
            );
            let columns = vec!["a".to_owned(), "x\ny (\"z".to_owned()];
            let expected = [
                ScriptPart::Table { name: "app".to_owned(), columns },
                ScriptPart::Rows(b"\"\n".to_vec()),
                ScriptPart::TableEnd,
                ScriptPart::Sequence {
                    name: "app_\nn's_seq".to_owned(),
                    last: 7,
                    is_called: false,
                },
            ];
            assert_eq!(parts(&script).unwrap(), expected, "{schema}");
        }
    }

    #[test]
    fn columns_may_have_any_name() {
        for (text, names) in [
            ("a", Some(&["a"][..])),
            ("a, \"position\", b_2", Some(&["a", "position", "b_2"])),
            ("\"A \"\"b\"\"; --\", a", Some(&["A \"b\"; --", "a"])),
            ("\"x, y\", \"\"\"\"", Some(&["x, y", "\""])),
            ("", None),
            ("a,b", None),
            ("a, ", None),
            ("A", None),
            ("\"\"", None),
            ("\"a", None),
            ("\"a\"b", None),
            ("a) FROM stdin; --", None),
        ] {
            let names = names.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            assert_eq!(identifiers(text), names, "{text}");
        }
    }

    #[test]
    fn other_statements_are_refused() {
        for line in [
            "COPY public.app FROM PROGRAM 'id';",
            "COPY public.app (buin) TO PROGRAM 'id';",
            "COPY (select 1) TO PROGRAM 'id'; --",
            "CREATE MATERIALIZED VIEW public.evil AS SELECT 1;",
            "REFRESH MATERIALIZED VIEW public.evil;",
            "select evil();",
            "SELECT pg_catalog.setval('public.x', 1, true); drop table app;",
            "SELECT pg_catalog.setval('public.x', (select 1), true);",
            "SELECT pg_catalog.setval('public.x'); select evil('', 1, true);",
            "COPY public.\"app (buin) FROM stdin;\nselect 1;",
            "SELECT pg_catalog.set_config('search_path', 'evil', false);",
            "\\! id",
            "COPY public.app (buin) FROM stdin; select 1;",
            "SET a = 1",
            " SET a = 1;",
        ] {
            let error = parts(&format!("{line}\n")).unwrap_err();
            assert!(error.contains("unexpected statement"), "{line}: {error}");
        }
        assert!(
            parts("COPY public.app (buin) FROM stdin;\n1\n").unwrap_err().contains("incomplete")
        );
    }

    #[test]
    fn large_tables_come_in_pieces() {
        let row = format!("{}\n", "x".repeat(999));
        let script = format!("COPY public.app (buin) FROM stdin;\n{}\\.\n", row.repeat(1_000));
        let parts = parts(&script).unwrap();
        let rows: Vec<usize> = parts
            .iter()
            .filter_map(|part| match part {
                ScriptPart::Rows(rows) => Some(rows.len()),
                _ => None,
            })
            .collect();
        assert!(rows.len() > 3 && rows.iter().all(|length| *length <= CHUNK_BYTES + 1_000));
        assert_eq!(rows.iter().sum::<usize>(), 1_000_000);
        let mut refused = 0;
        let result = read(&mut script.as_bytes(), |_| {
            refused += 1;
            false
        });
        assert!(matches!(result, Err(ScriptError::Closed)) && refused == 1);
    }
}
