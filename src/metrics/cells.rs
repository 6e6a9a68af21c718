//! Numbers that many threads write and that are seldom read.
//!
//! The official client's histogram takes a lock for each value, and its counters are single numbers
//! that would move between processors. So each thread counts in its own cache lines here, and a
//! reader adds them up. A reader may see a part of the concurrent changes.

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// The number of shards; more threads than these share them.
const SHARDS: usize = 8;
/// The maximum number of buckets of a histogram, with the unbounded last one.
const BUCKETS: usize = 17;
/// Nanoseconds in a second.
const NANOS_PER_SECOND: f64 = 1e9;

/// The bounds for durations of milliseconds, in nanoseconds: 250 µs to 10 s.
const SHORT_DURATION_BOUNDS: [u64; 15] = [
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];
/// The bounds for calls to other systems, in nanoseconds: 5 ms to 1 min.
const LONG_DURATION_BOUNDS: [u64; 14] = [
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    15_000_000_000,
    30_000_000_000,
    60_000_000_000,
];
/// The bounds for items per statement.
const COUNT_BOUNDS: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// One value for each shard.
#[derive(Debug, Default)]
pub(super) struct Sharded<T>([CachePadded<T>; SHARDS]);

/// As long as a cache line, so that two values never share one.
#[derive(Debug, Default)]
#[repr(align(128))]
struct CachePadded<T>(T);

impl<T> Sharded<T> {
    /// The value of this thread.
    pub(super) fn local(&self) -> &T {
        thread_local! {
            static SHARD: usize = {
                static NEXT_SHARD: AtomicUsize = AtomicUsize::new(0);
                NEXT_SHARD.fetch_add(1, Ordering::Relaxed) % SHARDS
            };
        }
        &self.0[SHARD.with(|index| *index)].0
    }

    /// The values of all threads.
    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|shard| &shard.0)
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(Sharded<AtomicU64>);

impl Counter {
    /// Adds 1.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `more`.
    pub fn add(&self, more: u64) {
        self.0.local().fetch_add(more, Ordering::Relaxed);
    }

    /// The current number.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.all().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// A number that rises and falls, on any thread.
#[derive(Debug, Default)]
pub struct Gauge(Sharded<AtomicI64>);

impl Gauge {
    /// Adds `change`, which may be negative.
    pub fn add(&self, change: i64) {
        self.0.local().fetch_add(change, Ordering::Relaxed);
    }

    /// The current number; at least 0.
    #[must_use]
    pub fn value(&self) -> i64 {
        let sum: i64 = self.0.all().map(|gauge| gauge.load(Ordering::Relaxed)).sum();
        sum.max(0)
    }
}

/// A distribution of values.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// The divisor of an exported value.
    scale: f64,
    buckets: Sharded<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    counts: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

/// The exported values of a histogram.
#[derive(Debug, PartialEq)]
pub(super) struct HistogramSnapshot {
    pub(super) sum: f64,
    pub(super) count: u64,
    /// The upper bound of each bucket and its own count; the last bound is infinite.
    pub(super) buckets: Vec<(f64, u64)>,
}

impl Histogram {
    /// For durations that should be milliseconds, exported in seconds.
    #[must_use]
    pub fn for_short_durations() -> Self {
        Self {
            bounds: &SHORT_DURATION_BOUNDS,
            scale: NANOS_PER_SECOND,
            buckets: Sharded::default(),
        }
    }

    /// For durations that depend on other systems, exported in seconds.
    #[must_use]
    pub fn for_long_durations() -> Self {
        Self { bounds: &LONG_DURATION_BOUNDS, scale: NANOS_PER_SECOND, buckets: Sharded::default() }
    }

    /// For numbers of items.
    #[must_use]
    pub fn for_counts() -> Self {
        Self { bounds: &COUNT_BOUNDS, scale: 1.0, buckets: Sharded::default() }
    }

    /// Records a duration.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Records a value: a number of items, or of nanoseconds.
    pub fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        let buckets = self.buckets.local();
        buckets.counts[bucket].fetch_add(1, Ordering::Relaxed);
        buckets.sum.fetch_add(value, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> HistogramSnapshot {
        let bounds = self.bounds.iter().map(|bound| *bound as f64 / self.scale);
        let mut buckets: Vec<(f64, u64)> =
            bounds.chain([f64::INFINITY]).map(|bound| (bound, 0)).collect();
        let mut sum = 0_u64;
        for shard in self.buckets.all() {
            sum = sum.wrapping_add(shard.sum.load(Ordering::Relaxed));
            for (bucket, count) in buckets.iter_mut().zip(&shard.counts) {
                bucket.1 += count.load(Ordering::Relaxed);
            }
        }
        let count = buckets.iter().map(|(_, count)| count).sum();
        HistogramSnapshot { sum: sum as f64 / self.scale, count, buckets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_of_all_threads_are_summed() {
        let (counter, gauge) = (Counter::default(), Gauge::default());
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    (0..1_000).for_each(|_| counter.inc());
                    gauge.add(3);
                });
            }
        });
        gauge.add(-58);
        assert_eq!((counter.value(), gauge.value()), (20_000, 2));
        gauge.add(-9);
        assert_eq!(gauge.value(), 0);
    }

    #[test]
    fn value_counts_in_the_first_bucket_that_holds_it() {
        let items = Histogram::for_counts();
        for value in [1, 2, 3, 256, 257] {
            items.observe(value);
        }
        let snapshot = items.snapshot();
        assert_eq!((snapshot.sum, snapshot.count), (519.0, 5));
        let filled: Vec<_> = snapshot.buckets.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(1.0, 1), (2.0, 1), (4.0, 1), (256.0, 1), (f64::INFINITY, 1)]);
    }

    #[test]
    fn durations_are_exported_in_seconds() {
        for histogram in [Histogram::for_short_durations(), Histogram::for_long_durations()] {
            assert!(histogram.bounds.len() < BUCKETS && histogram.bounds.is_sorted());
            histogram.observe_duration(Duration::from_millis(500));
            histogram.observe_duration(Duration::from_secs(100));
            let snapshot = histogram.snapshot();
            assert_eq!((snapshot.sum, snapshot.count), (100.5, 2));
            assert!(snapshot.buckets.contains(&(0.5, 1)));
            assert_eq!(snapshot.buckets.last(), Some(&(f64::INFINITY, 1)));
        }
    }
}
