//! The request rate of each app, on this server.
//!
//! A request counts as much as it reads or writes: each item of a batch, each session of a page. So an
//! app cannot get around its limit by putting many requests into one.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::{DefaultKeyedRateLimiter, RateLimiter};

use crate::domain::{App, AppId, Buin};

/// Limits the requests per second of each app, and the burst after a pause. The limiter keeps 8
/// bytes and the key of each app for as long as the server runs.
pub(crate) struct AppRateLimiter {
    limiter: DefaultKeyedRateLimiter<(Buin, AppId), StateInformationMiddleware>,
    burst: NonZeroU32,
    /// The time until an app that has none left may send a request.
    interval: Duration,
    clock: DefaultClock,
}

impl AppRateLimiter {
    /// Returns `None` if `per_second` is 0: no limit. The burst is `per_second` if `burst` is 0.
    pub(crate) fn new(per_second: u32, burst: u32) -> Option<Self> {
        let per_second = NonZeroU32::new(per_second)?;
        let burst = NonZeroU32::new(burst).unwrap_or(per_second);
        let quota = governor::Quota::per_second(per_second).allow_burst(burst);
        Some(Self {
            limiter: RateLimiter::keyed(quota).with_middleware(),
            burst,
            interval: quota.replenish_interval(),
            clock: DefaultClock::default(),
        })
    }

    /// Counts one request of the app.
    ///
    /// # Errors
    /// The time until the next request is allowed, if the app exceeds its rate.
    pub(crate) fn check(&self, app: &App) -> Result<(), Duration> {
        let allowed = self.limiter.check_key(&key(app));
        allowed.map(drop).map_err(|until| until.wait_time_from(self.clock.now()))
    }

    /// Counts `more` requests of the app, beside the one that brought them. Together they count as at
    /// most a whole burst, so that a full one is enough for any of them.
    ///
    /// # Errors
    /// The time until they are allowed together with the one that brings them again, if the app
    /// exceeds its rate. None of `more` is counted then.
    pub(crate) fn check_more(&self, app: &App, more: usize) -> Result<(), Duration> {
        let more = u32::try_from(more).unwrap_or(u32::MAX).min(self.burst.get() - 1);
        let Some(more) = NonZeroU32::new(more) else { return Ok(()) };
        match self.limiter.check_key_n(&key(app), more) {
            Ok(Err(until)) => Err(until.wait_time_from(self.clock.now()) + self.interval),
            // The burst has room for `more`.
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }

    /// Counts `more` requests of the app for work that is done: as many as it has left.
    pub(crate) fn charge(&self, app: &App, more: usize) {
        let Some(rest) = more.checked_sub(1) else { return };
        // The first one tells how many are left.
        let Ok(left) = self.limiter.check_key(&key(app)) else { return };
        let rest = u32::try_from(rest).unwrap_or(u32::MAX).min(left.remaining_burst_capacity());
        if let Some(rest) = NonZeroU32::new(rest) {
            // If another request has taken some of them meanwhile, the app has few left anyway.
            let _ = self.limiter.check_key_n(&key(app), rest);
        }
    }
}

fn key(app: &App) -> (Buin, AppId) {
    (app.buin, app.app_id.clone())
}
