//! Authenticates callers for every API, throttles failed attempts and limits the rate of apps.
//!
//! The surprise is the order: a credential that is cached as valid is accepted first. Only other
//! credentials meet the [`AttemptThrottle`].

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpRequest, web};
use chrono::TimeDelta;
use ipnet::IpNet;
use tokio::time::Instant;

use super::app_rate_limit::AppRateLimiter;
use super::attempt_throttle::AttemptThrottle;
use super::sealed_guard::SealedGuard;
use crate::clock::Clock;
use crate::domain::App;
use crate::http::middleware::client_ip::{ClientIp, ClientIpResolver};
use crate::http::middleware::request_context::RequestContext;
use crate::http::transport;
use crate::metrics::Metrics;
use crate::service::{AppContext, AuthError, Authenticator, Caller, Error, ProofFault};

/// The longest sealed text, in bytes, that is opened for a throttled client. A sealed time takes a
/// fifth of this.
const MAX_UNTHROTTLED_SEALED_LEN: usize = 1_024;
/// Invalid credentials of a network are forgotten after this time.
const CREDENTIALS_RESET_AFTER: TimeDelta = TimeDelta::seconds(60);

/// The limits for callers.
#[derive(Clone, Debug)]
pub struct AuthOptions {
    /// An address must wait after this many failed attempts; 0 disables the throttle.
    pub max_failed_attempts: u32,
    /// Requests of an app per second; 0 = no limit.
    pub requests_per_second: u32,
    /// Requests of an app at once after a pause; 0 = the value of `requests_per_second`.
    pub max_burst: u32,
    /// The proxies whose `X-Forwarded-For` header is trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether a sealed create or update that was received before is refused.
    pub refuse_replayed_writes: bool,
}

/// Authenticates requests, within the limits of [`AuthOptions`].
pub struct RequestAuth {
    throttle: AttemptThrottle<IpNet>,
    sealed_guard: SealedGuard,
    rate_limiter: Option<AppRateLimiter>,
    client_ips: ClientIpResolver,
    clock: Clock,
}

/// Why a request is refused.
#[derive(Debug)]
pub(crate) enum AuthRejection {
    /// The caller is not authorized, or the database failed.
    Error(Error),
    /// The address of the caller tried more than `max` invalid credentials.
    Throttled { wait: Duration, max: u32 },
    /// The app sent more than `max` sealed texts from this address that cannot be opened.
    SealedThrottled { wait: Duration, max: u32 },
    /// The app exceeds its request rate, `max` in a second.
    RateLimited { wait: Duration, max: u32 },
    /// The open HTTP/2 requests of the enterprise take too much memory. Nothing was done.
    TooManyOpen,
    /// The router provides no [`RequestAuth`] or no [`Authenticator`]: a bug in this crate.
    NotConfigured,
}

impl RequestAuth {
    /// Reads the time from `clock`, and counts refused sealed texts in `metrics`.
    #[must_use]
    pub fn new(options: AuthOptions, clock: Clock, metrics: Arc<Metrics>) -> Self {
        let AuthOptions {
            max_failed_attempts,
            requests_per_second,
            max_burst,
            trusted_proxies,
            refuse_replayed_writes,
        } = options;
        Self {
            throttle: AttemptThrottle::new(max_failed_attempts, CREDENTIALS_RESET_AFTER),
            sealed_guard: SealedGuard::new(
                max_failed_attempts,
                refuse_replayed_writes,
                clock.clone(),
                metrics,
            ),
            rate_limiter: AppRateLimiter::new(requests_per_second, max_burst),
            client_ips: ClientIpResolver::new(&trusted_proxies),
            clock,
        }
    }

    pub(super) fn sealed_guard(&self) -> &SealedGuard {
        &self.sealed_guard
    }

    /// The resolver of client addresses behind trusted proxies.
    pub(crate) fn client_ips(&self) -> ClientIpResolver {
        self.client_ips.clone()
    }

    fn throttled(&self, wait: Duration) -> AuthRejection {
        AuthRejection::Throttled { wait, max: self.throttle.free_attempts() }
    }

    fn check_throttle(&self, network: IpNet) -> Result<(), AuthRejection> {
        match self.throttle.retry_after(&network, self.clock.now()) {
            Some(wait) => Err(self.throttled(wait)),
            None => Ok(()),
        }
    }

    /// Records an invalid credential.
    ///
    /// # Errors
    /// [`AuthRejection::Throttled`] if the address must wait already: the caller learns nothing
    /// else.
    fn record_failure(&self, network: IpNet) -> Result<(), AuthRejection> {
        match self.throttle.record_failure(&network, self.clock.now()) {
            Some(wait) => Err(self.throttled(wait)),
            None => Ok(()),
        }
    }

    fn check_rate_limit(&self, app: &App) -> Result<(), AuthRejection> {
        let Some(limiter) = &self.rate_limiter else { return Ok(()) };
        limiter.check(app).map_err(|wait| rate_limited(limiter, wait))
    }
}

fn rate_limited(limiter: &AppRateLimiter, wait: Duration) -> AuthRejection {
    AuthRejection::RateLimited { wait, max: limiter.per_second() }
}

/// Counts `more` requests of an app, beside the one that brought them.
pub(crate) fn count_more_requests(
    request: &HttpRequest,
    app: &App,
    more: usize,
) -> Result<(), AuthRejection> {
    match &request_auth(request)?.rate_limiter {
        Some(limiter) => limiter.check_more(app, more).map_err(|wait| rate_limited(limiter, wait)),
        None => Ok(()),
    }
}

/// Counts `more` requests of an app for work that is done, as far as the app has them left.
pub(crate) fn charge_requests(request: &HttpRequest, app: &App, more: usize) {
    if let Ok(RequestAuth { rate_limiter: Some(limiter), .. }) = request_auth(request) {
        limiter.charge(app, more);
    }
}

/// Authenticates the holder of an access token or an API key. The request timeout starts here, and
/// again when a body has been read.
pub(crate) async fn authenticate(
    request: &HttpRequest,
    token: &str,
) -> Result<Caller, AuthRejection> {
    let now = Instant::now();
    RequestContext::with(request, |context| context.mark_read(now));
    let (auth, authenticator) = (request_auth(request)?, authenticator(request)?);
    let caller = match authenticator.authenticate_cached(token, now) {
        Ok(Some(caller)) => caller,
        Err(error) if !error.suggests_guessing() => return Err(Error::from(error).into()),
        Ok(None) | Err(_) => {
            auth.check_throttle(rate_limit_prefix(request))?;
            counting_failures(request, auth, authenticator.authenticate(token, now).await)?
        }
    };
    caller.admit(|| client_ip(request).0).map_err(Error::from)?;
    if !transport::mark_authenticated(request, caller.app().buin) {
        return Err(AuthRejection::TooManyOpen);
    }
    identified(request, auth, caller.app(), "")?;
    Ok(caller)
}

/// Finds the app that requests a token. `sealed`, its proof of the key, is opened later.
pub(crate) async fn authenticate_token_request(
    request: &HttpRequest,
    (buin, app_id): (i64, &str),
    sealed: &str,
) -> Result<Arc<AppContext>, AuthRejection> {
    let now = Instant::now();
    RequestContext::with(request, |context| context.mark_read(now));
    let (auth, authenticator) = (request_auth(request)?, authenticator(request)?);
    let app = match authenticator.find_token_applicant_cached(buin, app_id) {
        Some(app) => app,
        None => {
            auth.check_throttle(rate_limit_prefix(request))?;
            counting_failures(
                request,
                auth,
                authenticator.find_token_applicant(buin, app_id).await,
            )?
        }
    };
    identified(request, auth, &app.app, sealed)?;
    Ok(app)
}

/// Records the app of a request, and checks its limits. A long `sealed` text is expensive to open,
/// so it is refused while the address is throttled.
fn identified(
    request: &HttpRequest,
    auth: &RequestAuth,
    app: &App,
    sealed: &str,
) -> Result<(), AuthRejection> {
    RequestContext::with(request, |context| {
        context.set_app(&app.app_id);
        context.set_enterprise(app.buin);
    });
    if sealed.len() > MAX_UNTHROTTLED_SEALED_LEN {
        auth.check_throttle(rate_limit_prefix(request))?;
    }
    auth.check_rate_limit(app)
}

/// Returns the result of a `proof` that an app has its key, or records a failed attempt.
pub(crate) fn verify_key_proof<T>(
    request: &HttpRequest,
    proof: Result<T, AuthError>,
) -> Result<T, AuthRejection> {
    let auth = request_auth(request)?;
    proof.map_err(|error| {
        let rejections = auth.sealed_guard.rejections();
        if matches!(error, AuthError::InvalidProof { fault: ProofFault::Replayed, .. }) {
            rejections.replayed.inc();
        } else {
            rejections.token_requests.inc();
        }
        match auth.record_failure(rate_limit_prefix(request)) {
            Err(rejection) => rejection,
            Ok(()) => Error::from(error).into(),
        }
    })
}

/// Records that an app got its token.
pub(crate) fn record_success(request: &HttpRequest) -> Result<(), AuthRejection> {
    let enterprise = RequestContext::from_request(request).and_then(|context| context.enterprise());
    if let Some(buin) = enterprise {
        // Without room for its enterprise, the request that is done counts for its address.
        transport::mark_authenticated(request, buin);
    }
    request_auth(request)?.throttle.forgive_one(&rate_limit_prefix(request));
    Ok(())
}

fn counting_failures<T>(
    request: &HttpRequest,
    auth: &RequestAuth,
    result: Result<T, Error>,
) -> Result<T, AuthRejection> {
    if let Err(Error::Denied(error)) = &result
        && error.suggests_guessing()
    {
        auth.record_failure(rate_limit_prefix(request))?;
    }
    Ok(result?)
}

pub(super) fn rate_limit_prefix(request: &HttpRequest) -> IpNet {
    client_ip(request).rate_limit_prefix()
}

pub(super) fn client_ip(request: &HttpRequest) -> ClientIp {
    let unknown = || ClientIp(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    RequestContext::from_request(request).map_or_else(unknown, |context| context.client_ip())
}

pub(super) fn request_auth(request: &HttpRequest) -> Result<&RequestAuth, AuthRejection> {
    request
        .app_data::<web::Data<RequestAuth>>()
        .map(|auth| &***auth)
        .ok_or(AuthRejection::NotConfigured)
}

pub(super) fn authenticator(
    request: &HttpRequest,
) -> Result<&web::Data<Authenticator>, AuthRejection> {
    request.app_data::<web::Data<Authenticator>>().ok_or(AuthRejection::NotConfigured)
}

impl From<Error> for AuthRejection {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}
