//! How much memory PostgreSQL gets.
//!
//! Its own default is 128 MiB on a machine of any size: the indexes of some hundred thousand
//! sessions are larger, and a create of a thousand members would wait for pages of them. PostgreSQL
//! takes what it gets only as it fills it.

use sysinfo::System;

const MIB: u64 = 1024 * 1024;
/// PostgreSQL's own default, and what it gets on a machine that does not say.
const MIN_MIB: u64 = 128;
/// Enough for the indexes of millions of sessions; the system holds the rest.
const MAX_MIB: u64 = 1024;
/// Its share of the machine's: the service and its cache live beside it, and perhaps others.
const MEMORY_DIVISOR: u64 = 8;

/// `shared_buffers` for this machine, or the container that this runs in, in MiB.
pub(super) fn shared_buffers() -> u64 {
    let Ok(mut system) = System::new() else { return MIN_MIB };
    system.refresh_memory();
    let limit = system.cgroup_limits().map_or(u64::MAX, |limits| limits.total_memory);
    share_of(system.total_memory().min(limit))
}

/// The share of so many bytes, in MiB.
fn share_of(bytes: u64) -> u64 {
    (bytes / MEMORY_DIVISOR / MIB).clamp(MIN_MIB, MAX_MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_buffers_are_an_eighth_within_bounds() {
        const GIB: u64 = 1024 * MIB;
        for (bytes, mib) in [
            (0, 128),
            (GIB / 2, 128),
            (GIB, 128),
            (2 * GIB, 256),
            (7 * GIB / 2, 448),
            (8 * GIB, 1024),
            (1024 * GIB, 1024),
        ] {
            assert_eq!(share_of(bytes), mib, "{bytes}");
        }
    }

    #[test]
    fn shared_buffers_are_within_bounds_here() {
        assert!((MIN_MIB..=MAX_MIB).contains(&shared_buffers()));
    }
}
