//! How many requests an app may make, on this server.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, RateLimiter};

use crate::domain::{App, AppId, Buin};

/// So many a second, each app for itself, and so many at once after a pause. What is kept of an app
/// are 8 bytes and its name, for as long as the server runs.
pub(crate) struct AppRateLimiter {
    limiter: DefaultKeyedRateLimiter<(Buin, AppId)>,
    clock: DefaultClock,
}

impl AppRateLimiter {
    /// None without `per_second`; without `burst` it is as large as that.
    pub(crate) fn new(per_second: u32, burst: u32) -> Option<Self> {
        let per_second = NonZeroU32::new(per_second)?;
        let burst = NonZeroU32::new(burst).unwrap_or(per_second);
        let quota = governor::Quota::per_second(per_second).allow_burst(burst);
        Some(Self { limiter: RateLimiter::keyed(quota), clock: DefaultClock::default() })
    }

    /// Takes one request off what the app has, or says how long it must wait for the next.
    pub(crate) fn check(&self, app: &App) -> Result<(), Duration> {
        let key = (app.buin, app.app_id.clone());
        self.limiter.check_key(&key).map_err(|until| until.wait_time_from(self.clock.now()))
    }
}
