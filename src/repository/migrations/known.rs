//! The migrations that a program knows, and their comparison with those of a database.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use chrono::{DateTime, Utc};
use sqlx::migrate::{Migration as MigrationFile, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr as _};

use super::earlier_texts::has_earlier_text;
use super::error::MigrationError;
use super::record::AppliedMigration;
use super::script::{MigrationKind, Script};

static MIGRATOR: Migrator = sqlx::migrate!("./migrations");
static OWN: LazyLock<MigrationList> =
    LazyLock::new(|| MigrationList::new(MIGRATOR.iter().cloned().collect()));

/// The migrations that a program knows, in the order of their numbers. A clone is the same list.
#[derive(Clone, Debug)]
pub struct MigrationList(Arc<[KnownMigration]>);

/// A migration that a program knows.
#[derive(Clone, Debug)]
pub(super) struct KnownMigration {
    pub(super) file: MigrationFile,
    pub(super) script: Script,
}

/// One migration of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// The number.
    pub version: i64,
    /// The description.
    pub description: String,
    /// The effect on programs that do not know it; `None` if it was made before the first release.
    pub kind: Option<MigrationKind>,
    /// The time when it was applied, or `None` if it is pending.
    pub applied_at: Option<DateTime<Utc>>,
}

/// The migrations that a run applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationScope {
    /// All but the last ones of the kind *contract*: programs of the previous release go on. A database
    /// without tables gets all.
    WithoutContracts,
    /// All.
    All,
}

/// The schema of a database, compared with a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaStatus {
    /// The schema is the one of this program.
    Current,
    /// Only migrations are missing that remove parts which this program does not need.
    ContractsPending(Vec<Migration>),
    /// A newer program has added to the schema, by these migrations. This program can use the database.
    Extended(Vec<i64>),
    /// Migrations are missing.
    Pending(Vec<Migration>),
    /// The database has migrations that are unknown to this program, because a newer one has run, and
    /// after which this program cannot use the database.
    Newer(Vec<i64>),
    /// A migration did not finish and must be repaired by hand.
    Dirty(i64),
    /// An applied migration differs in its text from the one of this program.
    ChecksumMismatch(i64),
}

impl SchemaStatus {
    /// Whether the program can use the database.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        match self {
            Self::Current | Self::ContractsPending(_) | Self::Extended(_) => true,
            Self::Pending(_) | Self::Newer(_) | Self::Dirty(_) | Self::ChecksumMismatch(_) => false,
        }
    }
}

impl MigrationList {
    /// The migrations of this program.
    #[must_use]
    pub fn own() -> Self {
        OWN.clone()
    }

    fn new(files: Vec<MigrationFile>) -> Self {
        let known = files.into_iter().map(|file| KnownMigration {
            script: Script::read(file.version, file.sql.as_str()),
            file,
        });
        Self(known.collect())
    }

    /// The migrations of a program that also knows this one, which comes after all others.
    #[must_use]
    pub fn with(&self, version: i64, description: &str, sql: &str) -> Self {
        let file = MigrationFile::new(
            version,
            description.to_owned().into(),
            MigrationType::Simple,
            AssertSqlSafe(sql.to_owned()).into_sql_str(),
            false,
        );
        let files = self.0.iter().map(|known| known.file.clone()).chain([file]);
        Self::new(files.collect())
    }

    /// The migrations of an earlier program, of which `last` is the last one.
    #[must_use]
    pub fn until(&self, last: i64) -> Self {
        let files = self.0.iter().map(|known| known.file.clone());
        Self::new(files.filter(|file| file.version <= last).collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &KnownMigration> {
        self.0.iter()
    }

    pub(super) fn find(&self, version: i64) -> Option<&KnownMigration> {
        self.iter().find(|known| known.file.version == version)
    }

    /// The migrations among `versions` that are unknown to this program.
    #[must_use]
    pub fn unknown(&self, versions: &[i64]) -> Vec<i64> {
        versions.iter().copied().filter(|version| self.find(*version).is_none()).collect()
    }

    /// All migrations, and when each was applied.
    pub(super) fn list(&self, applied: &BTreeMap<i64, AppliedMigration>) -> Vec<Migration> {
        self.iter().map(|known| known.describe(applied.get(&known.file.version))).collect()
    }

    /// Compares the record of a database with this list.
    pub(super) fn compare(&self, applied: &BTreeMap<i64, AppliedMigration>) -> SchemaStatus {
        let is_unknown = |version: &i64| self.find(*version).is_none();
        let (added, others): (Vec<_>, Vec<_>) = applied
            .iter()
            .filter(|(version, _)| is_unknown(version))
            .partition(|(_, row)| row.kind == Some(MigrationKind::Expand));
        if !others.is_empty() {
            return SchemaStatus::Newer(others.into_iter().map(|(version, _)| *version).collect());
        }
        for known in self.iter() {
            let version = known.file.version;
            match applied.get(&version) {
                Some(row) if !row.success && row.statements_done.is_none() => {
                    return SchemaStatus::Dirty(version);
                }
                Some(row)
                    if row.checksum != *known.file.checksum
                        && !has_earlier_text(version, &row.checksum) =>
                {
                    return SchemaStatus::ChecksumMismatch(version);
                }
                _ => {}
            }
        }
        let describe = |due: Vec<&KnownMigration>| {
            due.into_iter().map(|known| known.describe(applied.get(&known.file.version))).collect()
        };
        let needed = self.pending(applied, MigrationScope::WithoutContracts);
        if !needed.is_empty() {
            return SchemaStatus::Pending(describe(needed));
        }
        if !added.is_empty() {
            return SchemaStatus::Extended(
                added.into_iter().map(|(version, _)| *version).collect(),
            );
        }
        match self.pending(applied, MigrationScope::All) {
            contracts if contracts.is_empty() => SchemaStatus::Current,
            contracts => SchemaStatus::ContractsPending(describe(contracts)),
        }
    }

    /// The migrations that a run applies.
    ///
    /// # Errors
    /// [`MigrationError::Newer`] or [`MigrationError::Inconsistent`].
    pub(super) fn due(
        &self,
        applied: &BTreeMap<i64, AppliedMigration>,
        scope: MigrationScope,
    ) -> Result<Vec<&KnownMigration>, MigrationError> {
        match self.compare(applied) {
            SchemaStatus::Newer(found) => {
                let newest = self.iter().map(|known| known.file.version).max();
                Err(MigrationError::Newer { found, newest: newest.unwrap_or_default() })
            }
            SchemaStatus::Dirty(version) | SchemaStatus::ChecksumMismatch(version) => {
                Err(MigrationError::Inconsistent(version))
            }
            SchemaStatus::Current
            | SchemaStatus::ContractsPending(_)
            | SchemaStatus::Extended(_)
            | SchemaStatus::Pending(_) => Ok(self.pending(applied, scope)),
        }
    }

    /// The migrations of a scope that are not done. A contract that others follow belongs to each
    /// scope, because migrations are applied in their order.
    fn pending(
        &self,
        applied: &BTreeMap<i64, AppliedMigration>,
        scope: MigrationScope,
    ) -> Vec<&KnownMigration> {
        let is_done = |known: &&KnownMigration| {
            applied.get(&known.file.version).is_some_and(|row| row.success)
        };
        let mut pending: Vec<_> = self.iter().filter(|known| !is_done(known)).collect();
        if scope == MigrationScope::WithoutContracts && !applied.is_empty() {
            while pending.pop_if(|known| known.is_contract()).is_some() {}
        }
        pending
    }
}

impl KnownMigration {
    fn is_contract(&self) -> bool {
        self.script.kind == Some(MigrationKind::Contract)
    }

    /// This migration and when it was applied.
    pub(super) fn describe(&self, row: Option<&AppliedMigration>) -> Migration {
        Migration {
            version: self.file.version,
            description: self.file.description.to_string(),
            kind: self.script.kind,
            applied_at: row.filter(|row| row.success).map(|row| row.at),
        }
    }
}
