//! A diagnosis of the database: its version, its clock, its feed and its secrets. Nothing is changed.
//!
//! [`super::schema::state`] diagnoses the schema. The functions here have no timeout: the caller
//! must expect a database that does not answer.

use std::path::PathBuf;
use std::time::Duration;

use chrono::DateTime;

use super::{AdminContext, Error};
use crate::repository::migrations::condition;
use crate::repository::{
    self, app_notifications, apps,
    connections::{pooler_check::LinkBehavior, probe, write_probe},
    feed, sealing,
};
use crate::service::DatabaseIdentity;
use crate::service::database_servers::{self, DatabaseServerState};
use crate::wire::MasterKeyId;

/// The oldest major version of PostgreSQL on which Muster runs.
pub const MIN_POSTGRES_VERSION: i32 = probe::MIN_VERSION;

/// A database server that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseServer {
    /// The version as the server writes it, such as "15.18".
    pub version: String,
    /// Whether Muster supports this version.
    pub is_supported: bool,
    /// Whether the server takes no writes.
    pub is_read_only: bool,
    /// The rights that a server needs and the role lacks, each like `INSERT on session`.
    pub missing_rights: Vec<String>,
    /// The tables that hide those of Muster, each like `own.session`.
    pub hiding_tables: Vec<String>,
    /// The tables whose rows row level security would hide from the role.
    pub filtered_tables: Vec<String>,
    /// The tables that a server needs and the database lacks, although their migrations are applied.
    pub missing_tables: Vec<String>,
    /// The difference between the clocks of the server and this process.
    pub clock_skew: Duration,
}

/// The condition of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedCondition {
    /// The age of the oldest change without a number; `None` if every change has one.
    pub oldest_age: Option<Duration>,
    /// Whether a server numbers changes.
    pub has_leader: bool,
    /// The number of running servers; `None` if a pooler hides them.
    pub servers: Option<u64>,
}

/// The link to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkCondition {
    /// The pooler, as it behaves.
    pub pooler: PoolerBehavior,
    /// The link of work that needs a session of PostgreSQL.
    pub sessions: SessionLink,
}

/// A pooler, as it behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolerBehavior {
    /// No pooler is between.
    Absent,
    /// It lends a session of PostgreSQL for one transaction, and keeps prepared statements.
    Transactions,
    /// The same, but it keeps no prepared statements.
    WithoutStatements,
    /// It lends a session of PostgreSQL for as long as the client is connected.
    Sessions,
}

/// The link of work that needs a session of PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionLink {
    /// The configuration has no such link.
    Missing,
    /// It leads to the database.
    SameDatabase,
    /// It leads to another database.
    OtherDatabase,
}

/// The condition of the stored secrets.
#[derive(Debug)]
pub enum SecretsCondition {
    /// Every secret can be opened.
    Sealed {
        /// The active master key.
        key: MasterKeyId,
    },
    /// Every secret can be opened, but every user of the machine can read the master key.
    ExposedKeyFile {
        /// The file of master keys.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// No master key is active yet.
    NotSealed,
    /// The master keys cannot be read.
    UnreadableKeys(Error),
    /// The active master key is not in the keyring.
    MissingKey(Error),
    /// A stored secret cannot be opened.
    DamagedSecret(Error),
    /// The database failed.
    Failed(Error),
}

/// Reads the version and the clock of the database server, and whether it takes writes.
///
/// # Errors
/// The database fails.
pub async fn server(admin: &AdminContext) -> Result<DatabaseServer, Error> {
    let server = probe::server(&admin.pool).await?;
    let condition = condition::read(&admin.pool, &admin.migrations).await?;
    Ok(DatabaseServer {
        is_supported: server.major >= MIN_POSTGRES_VERSION,
        is_read_only: probe::is_read_only(&admin.pool).await?,
        missing_rights: condition.missing_rights,
        hiding_tables: condition.hiding_tables,
        filtered_tables: condition.filtered_tables,
        missing_tables: condition.missing_tables,
        clock_skew: admin.skew(server.now),
        version: server.version,
    })
}

/// Identifies the database.
///
/// # Errors
/// The database fails.
pub async fn identity(admin: &AdminContext) -> Result<DatabaseIdentity, Error> {
    Ok(DatabaseIdentity::read(&admin.pool).await?)
}

/// The state of each server of the database, in the order of the URL. Takes at most a second.
pub async fn servers(admin: &AdminContext) -> Vec<DatabaseServerState> {
    database_servers::states(&admin.pool).await
}

/// Finds out how the link to the database behaves.
///
/// # Errors
/// The database fails, through the pooler or directly.
pub async fn link(admin: &AdminContext) -> Result<LinkCondition, Error> {
    let pooler = match admin.pool.link_behavior().await? {
        LinkBehavior::Direct => PoolerBehavior::Absent,
        LinkBehavior::Transactions => PoolerBehavior::Transactions,
        LinkBehavior::WithoutStatements => PoolerBehavior::WithoutStatements,
        LinkBehavior::Sessions => PoolerBehavior::Sessions,
    };
    let sessions = match admin.pool.session_pool() {
        None => SessionLink::Missing,
        Some(direct) => {
            let pooled = DatabaseIdentity::read(&admin.pool).await?;
            match pooled == DatabaseIdentity::read(direct).await? {
                true => SessionLink::SameDatabase,
                false => SessionLink::OtherDatabase,
            }
        }
    };
    Ok(LinkCondition { pooler, sessions })
}

/// Writes some bytes that change no table, to find out whether a write ends.
///
/// # Errors
/// The database fails, or the write has not ended within `limit`.
pub async fn write(admin: &AdminContext, limit: Duration) -> Result<(), Error> {
    Ok(write_probe::write(&admin.pool, limit).await?)
}

/// Reads whether changes are numbered. The schema must be current.
///
/// # Errors
/// The database fails.
pub async fn feed_condition(admin: &AdminContext) -> Result<FeedCondition, Error> {
    let (oldest, leader) = feed::oldest(&admin.pool, DateTime::UNIX_EPOCH).await?;
    Ok(FeedCondition {
        oldest_age: oldest
            .map(|oldest| Duration::try_from_secs_f64(oldest.age).unwrap_or_default()),
        has_leader: leader.is_some(),
        servers: match admin.pool.session_pool() {
            Some(_) => Some(app_notifications::count_servers(&admin.pool).await?),
            None => None,
        },
    })
}

/// Opens every stored secret, and checks the permissions of the key file. The schema must be
/// current.
pub async fn secrets(admin: &AdminContext) -> SecretsCondition {
    if let Err(error) = admin.keyring.load() {
        return SecretsCondition::UnreadableKeys(error.into());
    }
    let key = match sealing::load_active_key(&admin.pool, &admin.keyring).await {
        Ok(key) => key.id(),
        Err(repository::Error::NotSealed) => return SecretsCondition::NotSealed,
        Err(error @ repository::Error::MasterKeyUnknown { .. }) => {
            return SecretsCondition::MissingKey(error.into());
        }
        Err(error) => return SecretsCondition::Failed(error.into()),
    };
    if let Err(error) = apps::list(&admin.pool, &admin.keyring).await {
        return SecretsCondition::DamagedSecret(error.into());
    }
    match admin.keyring.world_readable() {
        Some((path, mode)) => SecretsCondition::ExposedKeyFile { path: path.to_owned(), mode },
        None => SecretsCondition::Sealed { key },
    }
}
