//! The latencies of requests.

use std::time::Duration;

/// The durations of single requests.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// Adds a duration.
    pub fn push(&mut self, elapsed: Duration) {
        self.0.push(elapsed);
    }

    /// The number of durations.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds the durations of another thread.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// The percentile in milliseconds; NaN without durations.
    pub fn percentile(&self, percent: usize) -> f64 {
        let Some(last) = self.0.len().checked_sub(1) else { return f64::NAN };
        let mut all = self.0.clone();
        let (_, elapsed, _) = all.select_nth_unstable(last * percent / 100);
        elapsed.as_secs_f64() * 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_cover_all_durations() {
        let mut latencies = Latencies::default();
        assert!(latencies.percentile(50).is_nan());
        (1..=101).rev().for_each(|millis| latencies.push(Duration::from_millis(millis)));
        assert_eq!(latencies.percentile(50), 51.0);
        assert_eq!(latencies.percentile(99), 100.0);
    }
}
