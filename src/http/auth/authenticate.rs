//! Lets callers in, for every API: who they are, whether they guess, whether they have had their
//! share.
//!
//! The surprise is the order: a credential that is known to be valid is let in first, from memory.
//! Only one that is not meets [`Guesses`].

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpRequest, web};
use ipnet::IpNet;
use tokio::time::Instant;

use super::app_rate_limit::AppRateLimiter;
use super::attempt_throttle::AttemptThrottle;
use crate::clock::Clock;
use crate::domain::App;
use crate::http::middleware::client_ip::{ClientIp, ClientIpResolver};
use crate::http::middleware::request_context::RequestContext;
use crate::service::{AppContext, AuthError, Authenticator, Caller, Error};

/// A sealed time takes a fifth of this: who is held off cannot have more opened.
const MAX_UNTHROTTLED_SEALED_LEN: usize = 1_024;

/// What is asked of callers beside a credential.
#[derive(Clone, Debug)]
pub struct AuthOptions {
    /// How many credentials that are not valid an address may try for nothing; 0 = any number.
    pub max_failed_attempts: u32,
    /// How many requests an app may make in a second; 0 = any number.
    pub requests_per_second: u32,
    /// How many it may make at once after a pause; 0 = as many as in a second.
    pub burst: u32,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// Where callers come in.
pub struct RequestAuth {
    throttle: AttemptThrottle,
    rate_limiter: Option<AppRateLimiter>,
    client_ips: ClientIpResolver,
    clock: Clock,
}

/// Why a caller does not come in.
#[derive(Debug)]
pub(crate) enum AuthRejection {
    /// He may not, or the database failed.
    Error(Error),
    /// His address tried too many credentials that were not valid.
    Throttled { wait: Duration },
    /// The app has had its share.
    RateLimited { wait: Duration },
    /// The router gives no gate: a mistake in here.
    NotConfigured,
}

impl RequestAuth {
    /// Tells the time by `clock`.
    #[must_use]
    pub fn new(options: AuthOptions, clock: Clock) -> Self {
        let AuthOptions { max_failed_attempts, requests_per_second, burst, trusted_proxies } =
            options;
        Self {
            throttle: AttemptThrottle::new(max_failed_attempts),
            rate_limiter: AppRateLimiter::new(requests_per_second, burst),
            client_ips: ClientIpResolver::new(&trusted_proxies),
            clock,
        }
    }

    /// Finds the addresses of clients behind the proxies that are trusted.
    pub(crate) fn client_ips(&self) -> ClientIpResolver {
        self.client_ips.clone()
    }

    fn check_throttle(&self, network: IpNet) -> Result<(), AuthRejection> {
        match self.throttle.retry_after(network, self.clock.now()) {
            Some(wait) => Err(AuthRejection::Throttled { wait }),
            None => Ok(()),
        }
    }

    /// A credential was not valid.
    ///
    /// # Errors
    /// [`Barred::HeldOff`] when its address must wait by now: then that is all it is told.
    fn record_failure(&self, network: IpNet) -> Result<(), AuthRejection> {
        match self.throttle.record_failure(network, self.clock.now()) {
            Some(wait) => Err(AuthRejection::Throttled { wait }),
            None => Ok(()),
        }
    }

    fn check_rate_limit(&self, app: &App) -> Result<(), AuthRejection> {
        let allowed = self.rate_limiter.as_ref().map_or(Ok(()), |limiter| limiter.check(app));
        allowed.map_err(|wait| AuthRejection::RateLimited { wait })
    }
}

/// Lets in whoever holds an access token or an API key. The request must have been read by now: its
/// time begins.
pub(crate) async fn authenticate(
    request: &HttpRequest,
    token: &str,
) -> Result<Caller, AuthRejection> {
    let now = Instant::now();
    RequestContext::with(request, |context| context.mark_read(now));
    let (auth, authenticator) = (request_auth(request)?, authenticator(request)?);
    let caller = match authenticator.authenticate_cached(token, now) {
        Ok(Some(caller)) => caller,
        Err(error) if !counts_as_failure(error) => return Err(Error::from(error).into()),
        Ok(None) | Err(_) => {
            auth.check_throttle(rate_limit_prefix(request))?;
            counting_failures(request, auth, authenticator.authenticate(token, now).await)?
        }
    };
    identified(request, auth, caller.app(), "")?;
    Ok(caller)
}

/// The app that asks for a token by what it sealed, which is still to be opened.
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

/// The app of a request is known: the request's context names it from here on. What it `sealed` is
/// still to be opened.
fn identified(
    request: &HttpRequest,
    gate: &RequestAuth,
    app: &App,
    sealed: &str,
) -> Result<(), AuthRejection> {
    RequestContext::with(request, |context| context.set_app(&app.app_id));
    if sealed.len() > MAX_UNTHROTTLED_SEALED_LEN {
        gate.check_throttle(rate_limit_prefix(request))?;
    }
    gate.check_rate_limit(app)
}

/// Whether an applicant has the key of its app, as it showed: `shown`, or why it has not.
pub(crate) fn verify_key_proof<T, E: From<AuthRejection>>(
    request: &HttpRequest,
    proof: Result<T, impl Into<E>>,
) -> Result<T, E> {
    let auth = request_auth(request)?;
    proof.map_err(|error| match auth.record_failure(rate_limit_prefix(request)) {
        Err(rejection) => rejection.into(),
        Ok(()) => error.into(),
    })
}

/// An applicant got its token.
pub(crate) fn record_success(request: &HttpRequest) -> Result<(), AuthRejection> {
    request_auth(request)?.throttle.forgive_one(rate_limit_prefix(request));
    Ok(())
}

fn counting_failures<T>(
    request: &HttpRequest,
    auth: &RequestAuth,
    result: Result<T, Error>,
) -> Result<T, AuthRejection> {
    if let Err(Error::Denied(error)) = &result
        && counts_as_failure(*error)
    {
        auth.record_failure(rate_limit_prefix(request))?;
    }
    Ok(result?)
}

/// Whether who is denied this may have guessed. A token that is over was given by us.
fn counts_as_failure(error: AuthError) -> bool {
    match error {
        AuthError::UnknownToken
        | AuthError::UnknownApp
        | AuthError::WrongEnterprise
        | AuthError::ClockSkew => true,
        AuthError::MissingToken | AuthError::ExpiredToken | AuthError::MissingPermission(_) => {
            false
        }
    }
}

fn rate_limit_prefix(request: &HttpRequest) -> IpNet {
    let unknown = || ClientIp(Ipv4Addr::UNSPECIFIED.into());
    RequestContext::from_request(request)
        .map_or_else(unknown, |context| context.client_ip())
        .rate_limit_prefix()
}

fn request_auth(request: &HttpRequest) -> Result<&RequestAuth, AuthRejection> {
    request
        .app_data::<web::Data<RequestAuth>>()
        .map(|gate| &***gate)
        .ok_or(AuthRejection::NotConfigured)
}

fn authenticator(request: &HttpRequest) -> Result<&Authenticator, AuthRejection> {
    request
        .app_data::<web::Data<Authenticator>>()
        .map(|access| &***access)
        .ok_or(AuthRejection::NotConfigured)
}

impl From<Error> for AuthRejection {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}
