//! How long requests took.

use std::time::Duration;

/// Times of single requests.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// Keeps one.
    pub fn push(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// Takes in those of another thread.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// What `percent` of them are not longer than, in milliseconds; NaN if there are none.
    pub fn percentile(&self, percent: usize) -> f64 {
        let Some(last) = self.0.len().checked_sub(1) else { return f64::NAN };
        let mut all = self.0.clone();
        let (_, took, _) = all.select_nth_unstable(last * percent / 100);
        took.as_secs_f64() * 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_all_that_was_kept() {
        let mut latencies = Latencies::default();
        assert!(latencies.percentile(50).is_nan());
        (1..=101).rev().for_each(|millis| latencies.push(Duration::from_millis(millis)));
        assert_eq!(latencies.percentile(50), 51.0);
        assert_eq!(latencies.percentile(99), 100.0);
    }
}
