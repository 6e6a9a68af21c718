//! Reads the script that `pg_restore` writes: rows of tables, and the state of sequences.
//!
//! No line of the script is executed. A line is recognized completely, or the script is refused. The
//! statements that load the rows are made by this program.

use std::io::{self, BufRead, Read as _};

/// The maximum length of a line. A row is one line, and rows of Muster are much shorter.
const MAX_LINE_BYTES: u64 = 64 << 20;
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
    while read_line(script, &mut line)? {
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

/// Reads a line with its end; `false` at the end of the script.
fn read_line(script: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool, ScriptError> {
    line.clear();
    let length = script.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', line)?;
    if length as u64 == MAX_LINE_BYTES && line.last() != Some(&b'\n') {
        return Err(ScriptError::TooLong);
    }
    Ok(length > 0)
}

enum Statement {
    /// A comment or a setting.
    Ignored,
    Sequence(ScriptPart),
    /// Rows follow. `None` for a table whose name is not a plain one, such as no table of Muster has.
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
    if let Some(text) = line.strip_prefix("COPY ") {
        let text = text.strip_suffix(" FROM stdin;")?;
        return Some(Statement::Copy(table(text)));
    }
    let text = line.strip_prefix("SELECT pg_catalog.setval('")?.strip_suffix(");")?;
    let (name, state) = text.split_once("', ")?;
    let (last, is_called) = state.split_once(", ")?;
    let is_called = is_called.parse().ok()?;
    let last = last.parse().ok()?;
    Some(Statement::Sequence(ScriptPart::Sequence { name: unqualified(name)?, last, is_called }))
}

/// `schema.table (column, column)`.
fn table(text: &str) -> Option<ScriptPart> {
    let (name, columns) = text.strip_suffix(')')?.split_once(" (")?;
    let columns = columns.split(", ").map(identifier).collect::<Option<_>>()?;
    Some(ScriptPart::Table { name: unqualified(name)?, columns })
}

/// The name without its schema.
fn unqualified(name: &str) -> Option<String> {
    identifier(name.rsplit_once('.')?.1)
}

/// A plain name: lower case letters, digits and `_`, perhaps in quotation marks.
fn identifier(text: &str) -> Option<String> {
    let plain = text.strip_prefix('"').map_or(Some(text), |text| text.strip_suffix('"'))?;
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (!plain.is_empty() && plain.bytes().all(is_plain)).then(|| plain.to_owned())
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
