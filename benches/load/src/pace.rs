//! The times at which a thread sends requests.

use std::time::{Duration, Instant};

/// The longest time in which a thread looks at nothing but its connections.
pub const MAX_WAIT: Duration = Duration::from_millis(100);

/// The time of the next request, and of the end.
pub struct Pace {
    next_at: Instant,
    interval: Duration,
    /// No request is sent from this time on.
    pub end: Instant,
}

impl Pace {
    /// Begins now. Without an interval, each request is due at once.
    pub fn start(interval: Duration, time: Duration) -> Self {
        let now = Instant::now();
        Self { next_at: now, interval, end: now + time }
    }

    /// Whether a request must be sent now.
    pub fn is_due(&self) -> bool {
        let now = Instant::now();
        now >= self.next_at && now < self.end
    }

    /// Records a request. Those after a late one follow without a pause, so that the rate is kept.
    pub fn advance(&mut self) {
        self.next_at += self.interval;
    }

    /// Whether the time is over.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    /// The time until the next request, or until the end.
    pub fn wait(&self) -> Duration {
        if self.is_over() {
            return MAX_WAIT;
        }
        self.next_at.min(self.end).saturating_duration_since(Instant::now()).min(MAX_WAIT)
    }
}
