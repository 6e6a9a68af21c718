//! `[audit]`: the retention of administrative acts.

use std::time::Duration;

use super::duration::DAY;
use super::read::Reader;

/// `[audit]`: the audit of administrative acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditConfig {
    /// The time for which an entry is stored.
    pub retention: Duration,
}

impl AuditConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self { retention: reader.duration("audit.retention", DAY..=36_500 * DAY) }
    }
}
