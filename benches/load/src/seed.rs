//! Sets of sessions that exist before a measurement, with ids that can be computed.

use crate::accounts::DIGITS;
use crate::pgbench::{Clients, Pgbench};
use crate::statement::Statements;

/// Clients that seed. Each creates the same number of sessions.
const CLIENTS: u64 = 16;

/// A set of sessions, numbered from 0.
#[derive(Clone, Debug)]
pub struct Set {
    /// The first 17 digits of the ids: a UUID v7 with a time in the past.
    pub prefix: String,
    /// The number of sessions.
    pub count: u64,
}

impl Set {
    /// The set `number`, of `count` sessions or a few more.
    pub fn new(number: u64, count: u64) -> Self {
        Self { prefix: format!("0190000{number:05}70008"), count: count.next_multiple_of(CLIENTS) }
    }

    /// The id of a session as in answers, without braces.
    pub fn id(&self, n: u64) -> String {
        let digits = format!("{}{n:0DIGITS$}", self.prefix);
        let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &digits[part]);
        parts.join("-").to_uppercase()
    }

    /// Creates the sessions with Muster's own statement.
    ///
    /// # Errors
    /// If a statement fails.
    pub fn seed(
        &self,
        pgbench: &Pgbench,
        statements: &Statements,
        buin: i64,
        app: &str,
    ) -> anyhow::Result<()> {
        let values = vec![
            ("prefix", self.prefix.clone()),
            ("buin", buin.to_string()),
            ("app", app.to_owned()),
        ];
        let clients = Clients::Each { number: CLIENTS, transactions: self.count / CLIENTS };
        pgbench.run(&statements.seed_script(), clients, &values)?;
        Ok(())
    }
}

/// Sets of sessions: their numbers and sizes.
pub mod sets {
    /// Sessions for reads.
    pub const READ: (u64, u64) = (1, 50_000);
    /// Sessions for updates through Muster.
    pub const UPDATED: (u64, u64) = (2, 50_000);
    /// Sessions for updates by pgbench.
    pub const UPDATED_BY_REFERENCE: (u64, u64) = (3, 50_000);
    /// Sessions for updates by one client, compared with a service and with a statement.
    pub const ALONE: [(u64, u64); 2] = [(4, 2_000), (9, 2_000)];
    /// Sessions for updates by that service, and by that statement.
    pub const ALONE_BY_REFERENCE: [(u64, u64); 2] = [(5, 2_000), (10, 2_000)];
    /// The first session of this set is the hot session.
    pub const HOT: (u64, u64) = (6, 16);
    /// The first session of this set is the hot session of the reference.
    pub const HOT_BY_REFERENCE: (u64, u64) = (7, 16);
    /// Sessions for updates with the feed.
    pub const WITH_FEED: (u64, u64) = (11, 50_000);
    /// Sessions for updates without the feed.
    pub const WITHOUT_FEED: (u64, u64) = (12, 50_000);
    /// More sessions than the cache can hold.
    pub const LARGER_THAN_CACHE: (u64, u64) = (8, 1_000_000);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_upper_case_uuids() {
        let set = Set::new(3, 50);
        assert_eq!((set.id(42).as_str(), set.count), ("01900000-0003-7000-8000-000000000042", 64));
    }
}
