//! `[audit]`: for how long administrative acts are remembered.

use std::time::Duration;

use super::duration::DAY;
use super::read::Reader;

/// `[audit]`: the record of administrative acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditConfig {
    /// How long a line is kept.
    pub retention: Duration,
}

impl AuditConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self { retention: reader.duration("audit.retention", DAY..=36_500 * DAY) }
    }
}
