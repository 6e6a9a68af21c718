//! The memory of PostgreSQL.
//!
//! PostgreSQL's default is 128 MiB on a machine of any size. The indexes of some hundred thousand
//! sessions are larger, and the creation of a session with a thousand members would wait for index
//! pages. PostgreSQL occupies the memory only as it fills it.

use sysinfo::System;

const MIB: u64 = 1024 * 1024;
/// PostgreSQL's default, also used if the size of the machine's memory is unknown.
const MIN_MIB: u64 = 128;
/// Enough for the indexes of millions of sessions. The system's page cache holds the other pages.
const MAX_MIB: u64 = 1024;
/// The machine's memory divided by this is PostgreSQL's share. The service, its cache and other
/// programs need the rest.
const MEMORY_DIVISOR: u64 = 8;

/// `shared_buffers` in MiB for this machine or container.
pub(super) fn shared_buffers() -> u64 {
    let Ok(mut system) = System::new() else { return MIN_MIB };
    system.refresh_memory();
    let limit = system.cgroup_limits().map_or(u64::MAX, |limits| limits.total_memory);
    share_of(system.total_memory().min(limit))
}

/// PostgreSQL's share of `bytes`, in MiB.
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
