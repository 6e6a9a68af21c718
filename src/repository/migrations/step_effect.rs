//! The lock that a statement of a migration takes, and the work that it does, by its words.
//!
//! The estimate errs on the strict side: a statement that is not known here counts as one for which all
//! users of the table wait.

use super::script::MigrationStep;

/// The lock of a statement on the table that it names, from the weakest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TableLock {
    /// No lock, or one for which no other transaction waits.
    None,
    /// Rows can be changed, but not the same ones.
    RowExclusive,
    /// Rows can be read and changed. Another migration waits.
    ShareUpdateExclusive,
    /// Rows can be read. Changes wait.
    Share,
    /// The same, and it excludes itself.
    ShareRowExclusive,
    /// All users of the table wait.
    AccessExclusive,
}

/// The work of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepWork {
    /// The duration does not depend on the size of the table.
    Constant,
    /// Every row is read.
    Read,
    /// An index is built.
    Index,
    /// The table and its indexes are written again.
    Rewrite,
    /// Rows are changed one by one.
    Change,
}

/// The effect of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StepEffect {
    /// The table that is locked, or one of its indexes.
    pub(super) relation: Option<String>,
    pub(super) lock: TableLock,
    pub(super) work: StepWork,
}

impl TableLock {
    /// The name that PostgreSQL gives it in `pg_locks` and in its manual.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::RowExclusive => "ROW EXCLUSIVE",
            Self::ShareUpdateExclusive => "SHARE UPDATE EXCLUSIVE",
            Self::Share => "SHARE",
            Self::ShareRowExclusive => "SHARE ROW EXCLUSIVE",
            Self::AccessExclusive => "ACCESS EXCLUSIVE",
        }
    }

    /// The requests that wait while the lock is held.
    #[must_use]
    pub fn waiting(self) -> &'static str {
        match self {
            Self::None | Self::RowExclusive | Self::ShareUpdateExclusive => "none",
            Self::Share | Self::ShareRowExclusive => "writes",
            Self::AccessExclusive => "all",
        }
    }
}

impl StepEffect {
    /// The effect of a statement.
    pub(super) fn from_step(step: &MigrationStep) -> Self {
        let words: Vec<&str> = step
            .words
            .iter()
            .map(String::as_str)
            .filter(|word| !["if", "exists", "only", "replace"].contains(word))
            .collect();
        let effect = |relation: Option<&str>, lock, work| Self {
            relation: relation.map(str::to_owned),
            lock,
            work,
        };
        let after = |word: &str| {
            let at = words.iter().position(|found| *found == word)?;
            words.get(at + 1).copied()
        };
        let is_concurrent = words.iter().take(5).any(|word| *word == "concurrently");
        let lock_unless_concurrent =
            |lock| if is_concurrent { TableLock::ShareUpdateExclusive } else { lock };
        match words.as_slice() {
            ["create", "table", ..] => match after("references") {
                Some(table) => {
                    effect(Some(table), TableLock::ShareRowExclusive, StepWork::Constant)
                }
                None => effect(None, TableLock::None, StepWork::Constant),
            },
            ["create", "index", ..] | ["create", "unique", "index", ..] => {
                effect(after("on"), lock_unless_concurrent(TableLock::Share), StepWork::Index)
            }
            ["drop", "index", .., name] => {
                let lock = lock_unless_concurrent(TableLock::AccessExclusive);
                effect(Some(name), lock, StepWork::Constant)
            }
            ["alter", "table", table, actions @ ..] => {
                let (lock, work) = alteration(actions);
                effect(Some(table), lock, work)
            }
            ["drop", "table", table, ..] | ["lock", "table", table, ..] => {
                effect(Some(table), TableLock::AccessExclusive, StepWork::Constant)
            }
            ["drop", "trigger", ..] => {
                effect(after("on"), TableLock::AccessExclusive, StepWork::Constant)
            }
            ["create", rest @ ..] if rest.iter().take(3).any(|word| *word == "trigger") => {
                effect(after("on"), TableLock::ShareRowExclusive, StepWork::Constant)
            }
            ["create" | "drop", "or", "function" | "view", ..]
            | ["create" | "drop", "function" | "view" | "type" | "sequence", ..]
            | ["comment" | "grant" | "revoke" | "set" | "select" | "analyze", ..] => {
                effect(None, TableLock::None, StepWork::Constant)
            }
            ["vacuum", ..] => {
                effect(words.last().copied(), TableLock::ShareUpdateExclusive, StepWork::Read)
            }
            ["insert" | "update" | "delete" | "with", ..] => {
                effect(changed_table(&words), TableLock::RowExclusive, StepWork::Change)
            }
            _ => effect(None, TableLock::AccessExclusive, StepWork::Rewrite),
        }
    }
}

/// The lock and the work of the actions of `alter table`.
fn alteration(actions: &[&str]) -> (TableLock, StepWork) {
    let has = |sequence: &[&str]| actions.windows(sequence.len()).any(|words| words == sequence);
    let is_validated = !has(&["not", "valid"]);
    let adds = |what: &str| actions.contains(&"add") && actions.contains(&what);
    // An expression with a function can differ for each row.
    let has_computed_default = actions.windows(2).any(|words| {
        let is_constant = ["true", "false", "null", "current_timestamp"].contains(&words[1])
            || is_number(words[1]);
        words[0] == "default" && !is_constant && !KEY_WORDS.contains(&words[1])
    });
    match actions {
        ["validate", "constraint", _] => return (TableLock::ShareUpdateExclusive, StepWork::Read),
        ["set", what, ..] if !["schema", "tablespace", "logged", "unlogged"].contains(what) => {
            return (TableLock::ShareUpdateExclusive, StepWork::Constant);
        }
        _ => {}
    }
    let changes_type = actions.windows(4).any(|words| {
        matches!(
            words,
            ["alter", "column", _, "type"] | ["column", _, "data" | "set", "data" | "type"]
        )
    });
    let work = if changes_type || adds("generated") || (adds("column") && has_computed_default) {
        StepWork::Rewrite
    } else if adds("constraint")
        && (adds("primary") || has(&["unique"]))
        && !has(&["using", "index"])
    {
        StepWork::Index
    } else if has(&["set", "not", "null"])
        || (adds("constraint") && (adds("check") || adds("references")) && is_validated)
    {
        StepWork::Read
    } else {
        StepWork::Constant
    };
    let adds_only_reference = actions.first() == Some(&"add") && adds("foreign");
    let lock = match adds_only_reference {
        true => TableLock::ShareRowExclusive,
        false => TableLock::AccessExclusive,
    };
    (lock, work)
}

/// The words that can follow a quoted default.
const KEY_WORDS: [&str; 6] = ["not", "constraint", "add", "check", "alter", "drop"];

fn is_number(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_digit())
}

/// The table whose rows a statement changes.
fn changed_table<'a>(words: &[&'a str]) -> Option<&'a str> {
    words.iter().enumerate().find_map(|(at, word)| {
        let before = at.checked_sub(1).map(|before| words[before]);
        let name = match *word {
            "update" if !matches!(before, Some("for" | "key" | "do")) => words.get(at + 1),
            "insert" | "delete" => words.get(at + 2),
            _ => None,
        };
        name.copied()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::known::MigrationList;
    use super::super::script::{LAST_UNDECLARED, MigrationKind, Script, StepMode, declared_kind};
    use super::*;

    /// The tables that stay small. All others grow with the sessions.
    const SMALL: [&str; 7] =
        ["api_key", "app", "audit", "consumer", "consumer_position", "feed_state", "sealing"];

    #[test]
    fn lock_and_work_of_a_statement_are_known() {
        use StepWork::{Change, Constant, Index, Read, Rewrite};
        use TableLock::{
            AccessExclusive, None, RowExclusive, Share, ShareRowExclusive, ShareUpdateExclusive,
        };
        for (sql, relation, lock, work) in [
            ("create table a (b int)", "", None, Constant),
            ("create table a (b int references c (d))", "c", ShareRowExclusive, Constant),
            ("create index a_b on a (b)", "a", Share, Index),
            ("create unique index concurrently a_b on a (b)", "a", ShareUpdateExclusive, Index),
            ("drop index if exists a_b", "a_b", AccessExclusive, Constant),
            ("drop index concurrently a_b", "a_b", ShareUpdateExclusive, Constant),
            ("alter table a add column b int", "a", AccessExclusive, Constant),
            ("alter table a add column b int default 5 not null", "a", AccessExclusive, Constant),
            (
                "alter table a add column b text default 'x' check (b <> '')",
                "a",
                AccessExclusive,
                Constant,
            ),
            (
                "alter table a add column b uuid default gen_random_uuid()",
                "a",
                AccessExclusive,
                Rewrite,
            ),
            ("alter table a alter column b type text", "a", AccessExclusive, Rewrite),
            ("alter table a alter column b set data type text", "a", AccessExclusive, Rewrite),
            ("alter table a alter column b set not null", "a", AccessExclusive, Read),
            ("alter table a add constraint c check (b > 0)", "a", AccessExclusive, Read),
            (
                "alter table a add constraint c check (b > 0) not valid",
                "a",
                AccessExclusive,
                Constant,
            ),
            ("alter table a validate constraint c", "a", ShareUpdateExclusive, Read),
            ("alter table a add constraint c unique (b)", "a", AccessExclusive, Index),
            ("alter table a add constraint c unique using index i", "a", AccessExclusive, Constant),
            (
                "alter table a add constraint c foreign key (b) references d (e)",
                "a",
                ShareRowExclusive,
                Read,
            ),
            ("alter table a set (fillfactor = 80)", "a", ShareUpdateExclusive, Constant),
            ("alter table a drop column b", "a", AccessExclusive, Constant),
            ("drop table if exists a", "a", AccessExclusive, Constant),
            (
                "create trigger t after insert on a for each row execute function f()",
                "a",
                ShareRowExclusive,
                Constant,
            ),
            (
                "create or replace function f() returns int language sql as $$ select 1 $$",
                "",
                None,
                Constant,
            ),
            ("update a set b = 1", "a", RowExclusive, Change),
            ("insert into a select 1 on conflict do update set b = 2", "a", RowExclusive, Change),
            (
                "with x as (select 1 for no key update) update a set b = 1",
                "a",
                RowExclusive,
                Change,
            ),
            ("vacuum a", "a", ShareUpdateExclusive, Read),
            ("cluster a", "", AccessExclusive, Rewrite),
        ] {
            let step = &Script::read(14, sql).steps[0];
            let expected = StepEffect {
                relation: Some(relation.to_owned()).filter(|name| !name.is_empty()),
                lock,
                work,
            };
            assert_eq!(StepEffect::from_step(step), expected, "{sql}");
        }
    }

    /// The statements that would stop servers of the previous release, or hold a lock for as long as a
    /// large table needs.
    fn mistakes(version: i64, sql: &str) -> Vec<String> {
        let script = Script::read(version, sql);
        let mut mistakes = Vec::new();
        let declared = declared_kind(sql);
        if declared != script.kind {
            mistakes
                .push("the first line must be `-- kind: expand` or `-- kind: contract`".to_owned());
        }
        let Some(kind) = script.kind else { return mistakes };
        let mut new_tables = BTreeSet::new();
        let mut new_functions = BTreeSet::new();
        for step in &script.steps {
            let mut is_of_new = false;
            let words: Vec<&str> = step.words.iter().map(String::as_str).collect();
            match words.as_slice() {
                ["create", "table", name, ..] => drop(new_tables.insert((*name).to_owned())),
                ["create", "function", name, ..] => drop(new_functions.insert((*name).to_owned())),
                ["drop", "function", name] => is_of_new = new_functions.contains(*name),
                _ => {}
            }
            let StepEffect { relation, lock, work } = StepEffect::from_step(step);
            let sql = step.sql.lines().next().unwrap_or_default();
            let is_small = relation
                .as_ref()
                .is_some_and(|name| new_tables.contains(name) || SMALL.contains(&name.as_str()));
            if !is_small && lock >= TableLock::Share && work != StepWork::Constant {
                mistakes.push(format!("`{sql}` holds its lock while it reads or writes the table"));
            }
            if !is_small && work == StepWork::Change && step.mode != StepMode::Batches {
                mistakes.push(format!("`{sql}` changes a large table in one transaction"));
            }
            let restricts = step.words.iter().any(|word| word == "drop" || word == "rename")
                || step.words.windows(3).any(|words| words == ["set", "not", "null"]);
            is_of_new |= relation.is_some_and(|name| new_tables.contains(&name));
            if kind == MigrationKind::Expand && restricts && !is_of_new {
                mistakes.push(format!("`{sql}` is no part of an expand"));
            }
        }
        mistakes
    }

    #[test]
    fn every_migration_is_declared_and_holds_no_lock_for_long() {
        for known in MigrationList::own().iter() {
            let (version, sql) = (known.file.version, known.file.sql.as_str());
            assert_eq!(mistakes(version, sql), Vec::<String>::new(), "migration {version}");
        }
    }

    #[test]
    fn migrations_that_hold_a_lock_for_long_are_found() {
        for (sql, found) in [
            ("alter table session add b int", 1),
            (
                "-- kind: expand\nalter table session add b int; create table x (a int);\ncreate index x_a on x (a)",
                0,
            ),
            ("-- kind: expand\ncreate index i on session (title)", 1),
            ("-- kind: expand\ncreate index concurrently i on session (title)", 0),
            ("-- kind: expand\ncreate index i on app (name)", 0),
            ("-- kind: expand\nupdate session set title = ''", 1),
            ("-- kind: expand\n-- batched\nupdate session set title = ''", 0),
            ("-- kind: expand\nalter table session drop column title", 1),
            ("-- kind: contract\nalter table session drop column title", 0),
            ("-- kind: expand\nalter table app alter column name set not null", 1),
            ("-- kind: contract\nalter table session alter column title set not null", 1),
            ("-- kind: contract\ncluster session", 1),
            ("-- kind: expand\ndrop function f()", 1),
            (
                "-- kind: expand\ncreate function f() returns int return 1; select f(); drop function f()",
                0,
            ),
        ] {
            let found_mistakes = mistakes(LAST_UNDECLARED + 1, sql);
            assert_eq!(found_mistakes.len(), found, "{sql}: {found_mistakes:?}");
        }
    }
}
