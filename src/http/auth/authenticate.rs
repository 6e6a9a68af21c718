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

use super::app_rate_limit::Quota;
use super::attempt_throttle::Guesses;
use crate::clock::Clock;
use crate::domain::App;
use crate::http::middleware::client_ip::{ClientIpResolver, Peer};
use crate::http::middleware::request_context::Noted;
use crate::service::{AppContext, AuthError, Authenticator, Caller, Error};

/// A sealed time takes a fifth of this: who is held off cannot have more opened.
const SEALED_TIME: usize = 1_024;

/// What is asked of callers beside a credential.
#[derive(Clone, Debug)]
pub struct GateOptions {
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
pub struct Gate {
    guesses: Guesses,
    quota: Option<Quota>,
    client_ips: ClientIpResolver,
    clock: Clock,
}

/// Why a caller does not come in.
#[derive(Debug)]
pub(crate) enum Barred {
    /// He may not, or the database failed.
    Error(Error),
    /// His address tried too many credentials that were not valid.
    HeldOff { wait: Duration },
    /// The app has had its share.
    TooMany { wait: Duration },
    /// The router gives no gate: a mistake in here.
    NoGate,
}

impl Gate {
    /// Tells the time by `clock`.
    #[must_use]
    pub fn new(options: GateOptions, clock: Clock) -> Self {
        let GateOptions { max_failed_attempts, requests_per_second, burst, trusted_proxies } =
            options;
        Self {
            guesses: Guesses::new(max_failed_attempts),
            quota: Quota::new(requests_per_second, burst),
            client_ips: ClientIpResolver::new(&trusted_proxies),
            clock,
        }
    }

    /// Finds the addresses of clients behind the proxies that are trusted.
    pub(crate) fn client_ips(&self) -> ClientIpResolver {
        self.client_ips.clone()
    }

    fn must_not_be_held_off(&self, network: IpNet) -> Result<(), Barred> {
        match self.guesses.wait(network, self.clock.now()) {
            Some(wait) => Err(Barred::HeldOff { wait }),
            None => Ok(()),
        }
    }

    /// A credential was not valid.
    ///
    /// # Errors
    /// [`Barred::HeldOff`] when its address must wait by now: then that is all it is told.
    fn failed(&self, network: IpNet) -> Result<(), Barred> {
        match self.guesses.failed(network, self.clock.now()) {
            Some(wait) => Err(Barred::HeldOff { wait }),
            None => Ok(()),
        }
    }

    fn take_turn(&self, app: &App) -> Result<(), Barred> {
        let taken = self.quota.as_ref().map_or(Ok(()), |quota| quota.take(app));
        taken.map_err(|wait| Barred::TooMany { wait })
    }
}

/// Lets in whoever holds an access token or an API key. The request must have been read by now: its
/// time begins.
pub(crate) async fn admit(request: &HttpRequest, token: &str) -> Result<Caller, Barred> {
    let now = Instant::now();
    Noted::on(request, |noted| noted.is_read(now));
    let (gate, access) = (gate(request)?, access(request)?);
    let caller = match access.authenticate_cached(token, now) {
        Ok(Some(caller)) => caller,
        Err(denied) if !is_guess(denied) => return Err(Error::from(denied).into()),
        Ok(None) | Err(_) => {
            gate.must_not_be_held_off(network(request))?;
            failing_counts(request, gate, access.authenticate(token, now).await)?
        }
    };
    identified(request, gate, caller.app(), "")?;
    Ok(caller)
}

/// The app that asks for a token by what it sealed, which is still to be opened.
pub(crate) async fn applicant(
    request: &HttpRequest,
    (buin, app_id): (i64, &str),
    sealed: &str,
) -> Result<Arc<AppContext>, Barred> {
    let now = Instant::now();
    Noted::on(request, |noted| noted.is_read(now));
    let (gate, access) = (gate(request)?, access(request)?);
    let known = match access.find_token_applicant_cached(buin, app_id) {
        Some(known) => known,
        None => {
            gate.must_not_be_held_off(network(request))?;
            failing_counts(request, gate, access.find_token_applicant(buin, app_id).await)?
        }
    };
    identified(request, gate, &known.app, sealed)?;
    Ok(known)
}

/// The app of a request is known: the request's context names it from here on. What it `sealed` is
/// still to be opened.
fn identified(request: &HttpRequest, gate: &Gate, app: &App, sealed: &str) -> Result<(), Barred> {
    Noted::on(request, |context| context.comes_from(&app.app_id));
    if sealed.len() > SEALED_TIME {
        gate.must_not_be_held_off(network(request))?;
    }
    gate.take_turn(app)
}

/// Whether an applicant has the key of its app, as it showed: `shown`, or why it has not.
pub(crate) fn has_key<T, E: From<Barred>>(
    request: &HttpRequest,
    shown: Result<T, impl Into<E>>,
) -> Result<T, E> {
    let gate = gate(request)?;
    shown.map_err(|why| match gate.failed(network(request)) {
        Err(barred) => barred.into(),
        Ok(()) => why.into(),
    })
}

/// An applicant got its token.
pub(crate) fn has_proved_itself(request: &HttpRequest) -> Result<(), Barred> {
    gate(request)?.guesses.made_up(network(request));
    Ok(())
}

fn failing_counts<T>(
    request: &HttpRequest,
    gate: &Gate,
    admitted: Result<T, Error>,
) -> Result<T, Barred> {
    if let Err(Error::Denied(denied)) = &admitted
        && is_guess(*denied)
    {
        gate.failed(network(request))?;
    }
    Ok(admitted?)
}

/// Whether who is denied this may have guessed. A token that is over was given by us.
fn is_guess(denied: AuthError) -> bool {
    match denied {
        AuthError::UnknownToken
        | AuthError::UnknownApp
        | AuthError::WrongEnterprise
        | AuthError::ClockSkew => true,
        AuthError::MissingToken | AuthError::ExpiredToken | AuthError::Permission(_) => false,
    }
}

fn network(request: &HttpRequest) -> IpNet {
    let nowhere = || Peer(Ipv4Addr::UNSPECIFIED.into());
    Noted::of(request).map_or_else(nowhere, |noted| noted.peer()).network()
}

fn gate(request: &HttpRequest) -> Result<&Gate, Barred> {
    request.app_data::<web::Data<Gate>>().map(|gate| &***gate).ok_or(Barred::NoGate)
}

fn access(request: &HttpRequest) -> Result<&Authenticator, Barred> {
    request.app_data::<web::Data<Authenticator>>().map(|access| &***access).ok_or(Barred::NoGate)
}

impl From<Error> for Barred {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}
