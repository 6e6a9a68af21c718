//! The outcomes of requests: statuses, latencies, closed connections.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::latency::Latencies;

/// The outcomes of some requests.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// The number of responses with each status.
    pub statuses: BTreeMap<u16, u64>,
    /// The number of connections that ended without a response.
    pub closed: u64,
    /// The durations of the requests that were answered.
    pub latencies: Latencies,
}

impl Answers {
    /// Adds a response.
    pub fn push(&mut self, status: u16, elapsed: Duration) {
        *self.statuses.entry(status).or_default() += 1;
        self.latencies.push(elapsed);
    }

    /// Adds the outcomes of other requests.
    pub fn extend(&mut self, others: Self) {
        for (status, count) in others.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.closed += others.closed;
        self.latencies.extend(others.latencies);
    }

    /// The number of requests that were not successful.
    pub fn failed(&self) -> u64 {
        let failed = self.statuses.iter().filter(|(status, _)| !(200..300).contains(*status));
        failed.map(|(_, count)| count).sum::<u64>() + self.closed
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> =
            self.statuses.iter().map(|(status, count)| format!("{status}: {count}")).collect();
        if self.closed > 0 {
            parts.push(format!("closed: {}", self.closed));
        }
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_and_closed_connections_are_failures() {
        let mut answers = Answers::default();
        for status in [200, 201, 503, 404] {
            answers.push(status, Duration::ZERO);
        }
        let mut all = Answers { closed: 2, ..Answers::default() };
        all.extend(answers);
        assert_eq!(
            (all.failed(), all.to_string().as_str()),
            (4, "200: 1, 201: 1, 404: 1, 503: 1, closed: 2")
        );
    }
}
