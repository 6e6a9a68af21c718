//! The request rate of each app, on this server.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, RateLimiter};

use crate::domain::{App, AppId, Buin};

/// Limits the requests per second of each app, and the burst after a pause. The limiter keeps 8
/// bytes and the key of each app for as long as the server runs.
pub(crate) struct AppRateLimiter {
    limiter: DefaultKeyedRateLimiter<(Buin, AppId)>,
    clock: DefaultClock,
}

impl AppRateLimiter {
    /// Returns `None` if `per_second` is 0: no limit. The burst is `per_second` if `burst` is 0.
    pub(crate) fn new(per_second: u32, burst: u32) -> Option<Self> {
        let per_second = NonZeroU32::new(per_second)?;
        let burst = NonZeroU32::new(burst).unwrap_or(per_second);
        let quota = governor::Quota::per_second(per_second).allow_burst(burst);
        Some(Self { limiter: RateLimiter::keyed(quota), clock: DefaultClock::default() })
    }

    /// Counts one request of the app.
    ///
    /// # Errors
    /// The time until the next request is allowed, if the app exceeds its rate.
    pub(crate) fn check(&self, app: &App) -> Result<(), Duration> {
        let key = (app.buin, app.app_id.clone());
        self.limiter.check_key(&key).map_err(|until| until.wait_time_from(self.clock.now()))
    }
}
