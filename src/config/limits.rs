//! `[limits]`: how large things may get, and how many.

use super::read::Reader;

/// `[limits]`: how large things may get, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest request body, in bytes.
    pub max_body: usize,
    /// The fewest members a session may have; at least 1, at most [`Limits::max_members`].
    pub min_members: usize,
    /// The most members a session may have.
    pub max_members: usize,
    /// How many requests may wait in one queue for the database; at least 1.
    pub max_waiting: usize,
}

impl Limits {
    pub(super) fn read(read: &mut Reader<'_>) -> Self {
        let limits = Self {
            max_body: read.number("limits.max_body", 1_024..=1_073_741_824),
            min_members: read.number("limits.min_members", 1..=100_000),
            max_members: read.number("limits.max_members", 1..=100_000),
            max_waiting: read.number("limits.max_waiting", 1..=100_000),
        };
        if limits.min_members > limits.max_members {
            read.contradiction("limits.min_members", "at most", "limits.max_members");
        }
        limits
    }
}
