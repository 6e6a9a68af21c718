//! The entries that a dump may have, as `pg_restore --list` shows them.
//!
//! A dump of this version has rows and the state of sequences, and nothing else: the tables come from
//! the migrations of this program. A dump of format 1 also has definitions. They are never executed.
//! Entries that can hold code are refused, except the functions and triggers that Muster had.

use super::content::{FUNCTIONS, TABLES};

/// The format of backups whose dumps have definitions.
const WITH_DEFINITIONS: u32 = 1;

/// Entries of such a dump that define how rows are stored. Those of other programs are skipped too.
const STORAGE_KINDS: [&str; 10] = [
    "TABLE DATA ",
    "TABLE ",
    "SEQUENCE SET ",
    "SEQUENCE ",
    "FK CONSTRAINT ",
    "CONSTRAINT ",
    "INDEX ",
    "DEFAULT ",
    "EXTENSION - ",
    "COMMENT - EXTENSION ",
];
/// The triggers of Muster: the table and the name.
const TRIGGERS: [[&str; 2]; 4] = [
    ["app", "app_changed"],
    ["api_key", "api_key_changed"],
    ["audit", "audit_chained"],
    ["audit", "audit_unchanged"],
];
/// The maximum number of foreign entries that an error names.
const MAX_NAMED: usize = 5;

/// Describes the entries that a dump of this format may not have. Empty if the dump is acceptable.
pub(super) fn foreign_entries(list: &str, format: u32) -> Vec<String> {
    let lines = list.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .filter(|line| !line.starts_with(';'))
        .map(description)
        .filter(|entry| !is_rows(entry) && (format != WITH_DEFINITIONS || !is_definition(entry)))
        .take(MAX_NAMED)
        .map(|entry| entry.chars().filter(|c| !c.is_control()).take(100).collect())
        .collect()
}

/// The entry without its numbers: `123; 1259 16384 TABLE public app muster` is a table.
fn description(line: &str) -> &str {
    let mut rest = line;
    for _ in 0..3 {
        rest = rest.split_once(' ').map_or("", |(_, rest)| rest);
    }
    rest
}

/// The rows of a table of Muster, or the state of a sequence.
///
/// A dump of a table has the sequences of all its columns, also of those that an operator has added. A
/// restore ignores them. The name of a schema may have blanks, so each word after the first one can be
/// the name of the table.
fn is_rows(entry: &str) -> bool {
    let table = |rest: &str| rest.split(' ').skip(1).any(|word| TABLES.contains(&word));
    entry.strip_prefix("TABLE DATA ").is_some_and(table) || entry.starts_with("SEQUENCE SET ")
}

/// A definition that Muster's dumps had, or one without code.
fn is_definition(entry: &str) -> bool {
    let words = |kind| entry.strip_prefix(kind).map(|rest| rest.split(' ').skip(1));
    STORAGE_KINDS.iter().any(|kind| entry.starts_with(kind))
        || words("FUNCTION ")
            .and_then(|mut words| words.next())
            .is_some_and(|name| FUNCTIONS.contains(&name))
        || words("TRIGGER ").is_some_and(|mut words| {
            let found = [words.next().unwrap_or_default(), words.next().unwrap_or_default()];
            TRIGGERS.contains(&found)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = ";\n; Archive created at 2024-06-10\n;     dbname: TABLE\n;\n\n";

    #[test]
    fn rows_of_muster_are_acceptable() {
        let list = format!(
            "{HEAD}3401; 0 16384 TABLE DATA public app muster\n\
             3402; 0 16394 TABLE DATA own session_event some one\n\
             3403; 0 16395 TABLE DATA my own schema session_event some one\n\
             3413; 0 0 SEQUENCE SET public audit_audit_id_seq muster\n\
             3414; 0 0 SEQUENCE SET public app_n_seq muster\n"
        );
        for format in [1, 2] {
            assert_eq!(foreign_entries(&list, format), Vec::<String>::new());
        }
    }

    #[test]
    fn definitions_are_acceptable_in_the_first_format_only() {
        for entry in [
            "2; 3079 16528 EXTENSION - pg_stat_statements ",
            "230; 1255 16408 FUNCTION public notify_apps_changed() muster",
            "215; 1259 16384 TABLE public app muster",
            "227; 1259 16525 TABLE public dba_notes muster",
            "3474; 0 16525 TABLE DATA public dba_notes muster",
            "3284; 2606 16401 CONSTRAINT public api_key api_key_pkey muster",
            "3282; 1259 16407 INDEX public api_key_by_app muster",
            "3316; 2620 16410 TRIGGER public api_key api_key_changed muster",
            "3314; 2606 16402 FK CONSTRAINT public api_key api_key_app_fkey muster",
        ] {
            let list = format!("{HEAD}{entry}\n");
            assert_eq!(foreign_entries(&list, 1), Vec::<String>::new(), "{entry}");
            assert_eq!(foreign_entries(&list, 2).len(), 1, "{entry}");
        }
    }

    #[test]
    fn entries_with_code_are_refused_in_every_format() {
        for entry in [
            "1; 1259 1 MATERIALIZED VIEW public app muster",
            "1; 0 1 MATERIALIZED VIEW DATA public app muster",
            "1; 1259 1 VIEW public session muster",
            "1; 1255 1 FUNCTION public notify_apps_changed(text) muster",
            "1; 1255 1 FUNCTION public evil() muster",
            "1; 1255 1 PROCEDURE public notify_apps_changed() muster",
            "1; 2620 1 TRIGGER public session app_changed muster",
            "1; 2620 1 TRIGGER public app evil muster",
            "1; 3466 1 EVENT TRIGGER - evil muster",
            "1; 2618 1 RULE public app evil muster",
            "1; 3256 1 POLICY public app evil muster",
            "1; 1255 1 AGGREGATE public evil muster",
            "1; 2328 1 FOREIGN DATA WRAPPER - evil muster",
            "1; 1247 1 DOMAIN public evil muster",
            "1; 2615 1 SCHEMA - evil muster",
            "1; 0 0 BLOBS - BLOBS ",
            "1; 0 0 ACL public TABLE app muster",
            "1; 6104 1 PUBLICATION - evil muster",
            "nothing",
        ] {
            let list = format!("{HEAD}{entry}\n");
            for format in [1, 2] {
                assert_eq!(foreign_entries(&list, format).len(), 1, "{entry}");
            }
        }
        assert_eq!(foreign_entries(&"1; 0 0 RULE a b c\n".repeat(99), 2).len(), MAX_NAMED);
    }
}
