//! Checks a finished dump with the code of a restore. A dump that cannot be restored is found on the day
//! of the backup.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::Path;

use super::content::{DatabaseContents, TableSummary};
use super::contents_list::foreign_entries;
use super::error::DumpError;
use super::manifest::{self, DumpFile};
use super::process;
use super::script::{self, ScriptError, ScriptPart};
use super::tools::Tools;

/// Checks the entries of a dump, and compares its rows with those of the database. Blocks.
pub(super) fn check(
    tools: &Tools,
    path: &Path,
    dump: &DumpFile,
    tables: &DatabaseContents,
) -> Result<(), DumpError> {
    let unusable = |problem| DumpError::Unrestorable { path: path.to_owned(), problem };
    let entries = foreign_entries(&process::list(tools, path)?, manifest::FORMAT);
    if !entries.is_empty() {
        return Err(unusable(format!("it contains {}", entries.join("; "))));
    }
    let mut counts = BTreeMap::<String, u64>::new();
    process::rows(tools, path, dump, |output| {
        let mut output = BufReader::with_capacity(1 << 16, output);
        let mut table = String::new();
        let read = script::read(&mut output, |part| {
            match part {
                ScriptPart::Table { name, .. } => table = name,
                ScriptPart::Rows(rows) => {
                    let lines = rows.iter().filter(|byte| **byte == b'\n').count();
                    *counts.entry(table.clone()).or_default() += lines as u64;
                }
                ScriptPart::TableEnd | ScriptPart::Sequence { .. } => {}
            }
            true
        });
        read.map_err(|error| match error {
            ScriptError::Io(error) => DumpError::file("read", path)(error),
            other => unusable(other.to_string()),
        })
    })?;
    let differences = differences(tables, &counts);
    if differences.is_empty() { Ok(()) } else { Err(unusable(differences.join("; "))) }
}

/// Describes each table of which the dump has another number of rows than the database.
fn differences(tables: &DatabaseContents, counts: &BTreeMap<String, u64>) -> Vec<String> {
    let describe = |(name, summary): (&String, &TableSummary)| {
        let found = counts.get(name).copied().unwrap_or_default();
        let expected = summary.rows;
        (found != expected).then(|| format!("{name} has {found} rows instead of {expected}"))
    };
    tables.iter().filter_map(describe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_table_must_have_all_its_rows() {
        let table =
            |name: &str, rows| (name.to_owned(), TableSummary { rows, checksum: String::new() });
        let tables = DatabaseContents::from([table("app", 2), table("audit", 1), table("feed", 0)]);
        let counts = |list: &[(&str, u64)]| {
            list.iter().map(|(name, rows)| ((*name).to_owned(), *rows)).collect()
        };
        let all = counts(&[("app", 2), ("audit", 1), ("other", 9)]);
        assert_eq!(differences(&tables, &all), Vec::<String>::new());
        assert_eq!(
            differences(&tables, &counts(&[("app", 1), ("feed", 3)])),
            [
                "app has 1 rows instead of 2",
                "audit has 0 rows instead of 1",
                "feed has 3 rows instead of 0"
            ]
        );
    }
}
