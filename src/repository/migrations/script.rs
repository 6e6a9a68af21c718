//! The declarations in the text of a migration: its kind, and how each statement is run.
//!
//! The first line of a migration is `-- kind: expand` or `-- kind: contract`. A comment `-- batched`
//! before a statement says that it changes some rows only, and is repeated.

use super::statements::{self, SqlToken};

/// The last migration without a declaration. These migrations were made before the first release.
pub(super) const LAST_UNDECLARED: i64 = 14;
/// The beginning of the line that declares the kind.
const KIND: &str = "-- kind: ";
/// The comment before a statement that is repeated.
const BATCHED: &str = "-- batched";

/// The effect of a migration on programs that do not know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationKind {
    /// The migration only adds to the schema. Programs of the previous release work as before.
    Expand,
    /// The migration removes or restricts parts that no program of this release needs. Programs of
    /// the previous release may need them.
    Contract,
}

impl MigrationKind {
    /// The name in the declaration and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expand => "expand",
            Self::Contract => "contract",
        }
    }

    /// The kind of this name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::Expand, Self::Contract].into_iter().find(|kind| kind.as_str() == name)
    }
}

/// The way in which a statement is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepMode {
    /// In a transaction together with the record that it is done.
    Transaction,
    /// Outside of a transaction, because PostgreSQL requires that.
    Alone,
    /// Repeated, each time in a transaction, until nothing is left.
    Batches,
}

/// A statement of a migration.
#[derive(Clone, Debug)]
pub(super) struct MigrationStep {
    /// The statement, without the comments before it.
    pub(super) sql: String,
    /// Its words in lower case, without quoted texts, comments and signs.
    pub(super) words: Vec<String>,
    pub(super) mode: StepMode,
    /// Whether the statement continues at a position: its parameter and its result.
    pub(super) has_position: bool,
}

/// The contents of a migration.
#[derive(Clone, Debug)]
pub(super) struct Script {
    /// `None` if the migration was made before the first release.
    pub(super) kind: Option<MigrationKind>,
    pub(super) steps: Vec<MigrationStep>,
}

impl Script {
    /// Reads a migration. One without a declaration counts as the strict kind; a test refuses it.
    pub(super) fn read(version: i64, sql: &str) -> Self {
        let kind = match version <= LAST_UNDECLARED {
            true => None,
            false => Some(declared_kind(sql).unwrap_or(MigrationKind::Contract)),
        };
        let steps = statements::split(sql).into_iter().map(MigrationStep::read).collect();
        Self { kind, steps }
    }
}

/// The kind that the first line declares.
pub(super) fn declared_kind(sql: &str) -> Option<MigrationKind> {
    let name = sql.lines().next()?.strip_prefix(KIND)?;
    MigrationKind::parse(name.trim_end())
}

impl MigrationStep {
    fn read(text: &str) -> Self {
        let (mut is_batched, mut begins_at, mut has_code) = (false, 0, false);
        let mut words = Vec::new();
        for (token, piece) in statements::tokens(text) {
            match token {
                SqlToken::Comment if !has_code => is_batched |= piece.trim_end() == BATCHED,
                SqlToken::Blank | SqlToken::Comment => {}
                SqlToken::Word => words.push(piece.to_lowercase()),
                SqlToken::Quoted | SqlToken::Sign | SqlToken::Semicolon => {}
            }
            has_code |= !matches!(token, SqlToken::Blank | SqlToken::Comment);
            if !has_code {
                begins_at += piece.len();
            }
        }
        let begin: Vec<&str> = words.iter().take(5).map(String::as_str).collect();
        let mode = match begin.as_slice() {
            _ if is_batched => StepMode::Batches,
            ["vacuum", ..] => StepMode::Alone,
            ["create" | "drop" | "reindex", ..] if begin.contains(&"concurrently") => {
                StepMode::Alone
            }
            _ => StepMode::Transaction,
        };
        let sql = text[begins_at..].to_owned();
        let has_position = statements::tokens(&sql).zip(statements::tokens(&sql).skip(1)).any(
            |((_, sign), (token, number))| sign == "$" && token == SqlToken::Word && number == "1",
        );
        Self { sql, words, mode, has_position }
    }

    /// The name of the index that the statement builds while its table is in use.
    pub(super) fn concurrent_index(&self) -> Option<&str> {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["create", "unique", "index", "concurrently", "if", "not", "exists", name, ..]
            | ["create", "unique", "index", "concurrently", name, ..]
            | ["create", "index", "concurrently", "if", "not", "exists", name, ..]
            | ["create", "index", "concurrently", name, ..] => Some(name),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_line_declares_the_kind() {
        for (sql, kind) in [
            ("-- kind: expand\nselect 1", Some(MigrationKind::Expand)),
            ("-- kind: contract\nselect 1", Some(MigrationKind::Contract)),
            ("-- kind: both\nselect 1", None),
            ("-- Why.\n-- kind: expand\nselect 1", None),
            ("select 1", None),
        ] {
            assert_eq!(declared_kind(sql), kind, "{sql}");
            let read = Script::read(LAST_UNDECLARED + 1, sql).kind;
            assert_eq!(read, Some(kind.unwrap_or(MigrationKind::Contract)), "{sql}");
            assert_eq!(Script::read(LAST_UNDECLARED, sql).kind, None, "{sql}");
        }
    }

    #[test]
    fn statement_tells_how_it_is_run() {
        let sql = "-- kind: expand\n-- Why.\nalter table a add b int;\n\
                   create unique index concurrently a_b on a (b);\n\
                   -- The rest.\n-- batched\nwith c as (select $1::text) update a set b = 1;\n\
                   /* x */ vacuum a; drop index concurrently if exists a_c;\n\
                   -- batched\nupdate a set c = '$1';";
        let steps = Script::read(14, sql).steps;
        let found: Vec<_> =
            steps.iter().map(|step| (step.sql.as_str(), step.mode, step.has_position)).collect();
        assert_eq!(
            found,
            [
                ("alter table a add b int", StepMode::Transaction, false),
                ("create unique index concurrently a_b on a (b)", StepMode::Alone, false),
                ("with c as (select $1::text) update a set b = 1", StepMode::Batches, true),
                ("vacuum a", StepMode::Alone, false),
                ("drop index concurrently if exists a_c", StepMode::Alone, false),
                ("update a set c = '$1'", StepMode::Batches, false),
            ]
        );
        let indexes: Vec<_> = steps.iter().filter_map(MigrationStep::concurrent_index).collect();
        assert_eq!(indexes, ["a_b"]);
    }
}
