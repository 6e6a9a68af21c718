//! The pooler between Muster and PostgreSQL, and the work that it takes away.

use super::super::explain::explain;
use super::report::{Check, with_causes};
use crate::config::{DatabaseConfig, PoolerMode};
use crate::service::admin::AdminContext;
use crate::service::admin::diagnosis::{self, LinkCondition, PoolerBehavior, SessionLink};

const NAME: &str = "pooler";

/// Checks the link to the database. `None` if it is direct, as configured.
pub(super) async fn check(admin: &AdminContext, database: &DatabaseConfig) -> Option<Check> {
    if database.pooler == PoolerMode::None {
        return database.direct_url.as_ref().map(|_| {
            let found = "database.direct_url is not used, because database.pooler is \"none\"";
            Check::warn(NAME, found, "remove it, or set database.pooler")
        });
    }
    let LinkCondition { pooler, sessions } = match diagnosis::link(admin).await.map_err(explain) {
        Ok(condition) => condition,
        Err(error) => {
            let remedy = "check database.direct_url, and that PostgreSQL accepts its user";
            return Some(Check::fail(NAME, with_causes(error), remedy));
        }
    };
    if sessions == SessionLink::OtherDatabase {
        let found = "database.direct_url leads to another database than database.url";
        return Some(Check::fail(NAME, found, "name the database to which the pooler leads"));
    }
    Some(match pooler {
        PoolerBehavior::Absent => Check::warn(
            NAME,
            "database.url leads to PostgreSQL itself: each statement takes three round trips for nothing",
            "set database.pooler to \"none\"",
        ),
        PoolerBehavior::Sessions => Check::warn(
            NAME,
            "the pooler of database.url seems to be in session mode: each connection keeps one of \
             PostgreSQL, so the pooler saves none",
            "set pool_mode = transaction for PgBouncer, or connect to PostgreSQL itself",
        ),
        PoolerBehavior::WithoutStatements => Check::fail(
            NAME,
            "the pooler of database.url keeps no prepared statements",
            "use PgBouncer 1.21 or newer, with max_prepared_statements above 0",
        ),
        PoolerBehavior::Transactions if sessions == SessionLink::Missing => Check::warn(
            NAME,
            "a pooler in transaction mode, without database.direct_url: servers poll for changed apps \
             and keys twice a second, commands cannot ask whether each server knows a change, and \
             migrate, backup, restore, move-to and secrets rotate refuse",
            "set database.direct_url to a URL of PostgreSQL itself",
        ),
        PoolerBehavior::Transactions => Check::ok(
            NAME,
            "a pooler in transaction mode; work that needs a session uses database.direct_url",
        ),
    })
}
