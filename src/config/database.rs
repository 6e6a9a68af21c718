//! The database and its connections.

use std::path::PathBuf;
use std::time::Duration;

use super::duration::{HOUR, MIN_TIMEOUT, MINUTE};
use super::pooler::PoolerMode;
use super::read::Reader;
use super::url::DatabaseUrl;

/// `[database]`: the database and its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseConfig {
    /// The URL of an external database; `None` = the embedded database.
    pub url: Option<DatabaseUrl>,
    /// The pooler behind the URL. If there is one, [`DatabaseConfig::url`] is set.
    pub pooler: PoolerMode,
    /// The URL of PostgreSQL itself, for work that a pooler cannot do.
    pub direct_url: Option<DatabaseUrl>,
    /// Whether an embedded database is allowed. If not, [`DatabaseConfig::url`] is set.
    pub embedded: bool,
    /// The number of connections in the pool; at least 1.
    pub max_connections: u32,
    /// The maximum number of requests that share a statement; at least 1.
    pub max_batch: usize,
    /// The time limit for a request to get a free connection.
    pub acquire_timeout: Duration,
    /// The time limit of one statement.
    pub statement_timeout: Duration,
    /// Whether `serve` applies pending migrations at its start.
    pub migrate: bool,
    /// The directory of `postgres` and `initdb` for the embedded database; `None` = search.
    pub postgres_dir: Option<PathBuf>,
    /// Whether these programs may be downloaded if the search finds no installation.
    pub download: bool,
}

impl DatabaseConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let settings = Self {
            url: reader.database_url("database.url"),
            pooler: reader.choice(
                "database.pooler",
                &[("none", PoolerMode::None), ("transaction", PoolerMode::Transaction)],
            ),
            direct_url: reader.database_url("database.direct_url"),
            embedded: reader.boolean("database.embedded"),
            max_connections: reader.number("database.max_connections", 1..=10_000),
            max_batch: reader.number("database.max_batch", 1..=256),
            acquire_timeout: reader.duration("database.acquire_timeout", MIN_TIMEOUT..=10 * MINUTE),
            statement_timeout: reader.duration("database.statement_timeout", MIN_TIMEOUT..=HOUR),
            migrate: reader.boolean("database.migrate"),
            postgres_dir: reader.optional_path("database.postgres_dir"),
            download: reader.boolean("database.download"),
        };
        if settings.url.is_none() && !settings.embedded {
            reader.add_missing(
                "database.url",
                "expected the URL of a PostgreSQL, because database.embedded is false: set \
                 MUSTER__DATABASE__URL, or MUSTER__DATABASE__URL_FILE to a file that holds it",
            );
        }
        if settings.url.is_none() && settings.pooler != PoolerMode::None {
            reader.add_missing(
                "database.url",
                "expected the URL of the pooler, because database.pooler is \"transaction\"",
            );
        }
        settings
    }

    /// The URLs that are used, with their keys.
    pub fn used_urls(&self) -> impl Iterator<Item = (&'static str, &DatabaseUrl)> {
        let direct = self.direct_url.as_ref().filter(|_| self.pooler != PoolerMode::None);
        let direct = direct.map(|url| ("database.direct_url", url));
        self.url.as_ref().map(|url| ("database.url", url)).into_iter().chain(direct)
    }
}
