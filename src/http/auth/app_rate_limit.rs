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
    per_second: NonZeroU32,
    burst: NonZeroU32,
    /// The time until an app that has used up its requests may send the next one.
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
            per_second,
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

    /// The rate, in requests per second.
    pub(crate) fn per_second(&self) -> u32 {
        self.per_second.get()
    }

    /// Counts the items of a request as `more` requests of the app, after the request itself has been
    /// counted. Request and items together count as at most one burst, so that the largest request can
    /// succeed after a pause.
    ///
    /// # Errors
    /// The time until the whole request may be sent again, if the app exceeds its rate. No item is
    /// counted in this case.
    pub(crate) fn check_more(&self, app: &App, more: usize) -> Result<(), Duration> {
        let more = u32::try_from(more).unwrap_or(u32::MAX).min(self.burst.get() - 1);
        let Some(more) = NonZeroU32::new(more) else { return Ok(()) };
        match self.limiter.check_key_n(&key(app), more) {
            Ok(Err(until)) => Err(until.wait_time_from(self.clock.now()) + self.interval),
            // An error would say that the burst is smaller than `more`, which is not possible here.
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }

    /// Counts work that is already done as `more` requests of the app, or as the number of requests that the
    /// app has left if that is less.
    pub(crate) fn charge(&self, app: &App, more: usize) {
        let Some(rest) = more.checked_sub(1) else { return };
        // The first request is counted alone, because its result has the number of requests left.
        let Ok(left) = self.limiter.check_key(&key(app)) else { return };
        let rest = u32::try_from(rest).unwrap_or(u32::MAX).min(left.remaining_burst_capacity());
        if let Some(rest) = NonZeroU32::new(rest) {
            // The call fails if a concurrent request has used some of them. The app then has few left
            // anyway.
            let _ = self.limiter.check_key_n(&key(app), rest);
        }
    }
}

fn key(app: &App) -> (Buin, AppId) {
    (app.buin, app.app_id.clone())
}
