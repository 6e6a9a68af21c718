//! Who calls, and what they say: the extractor of every call that needs an API key.
//!
//! It reads the body first (an answer to a request that is still being sent may never be read),
//! then lets the caller in, then reads the [`Part`]s: so what is wrong is told in one order.

use std::marker::PhantomData;
use std::pin::Pin;

use actix_web::http::header::AUTHORIZATION;
use actix_web::{FromRequest, HttpRequest, dev};
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::part::Part;
use crate::domain::{Permission, Permissions, SessionId};
use crate::http::auth::authenticate;
use crate::http::middleware::request_context::Noted;
use crate::http::shared::permission::Needs;
use crate::http::v1::problem::{Code, Fails, Problem};
use crate::http::{body, uri};
use crate::service::{AuthError, Caller};
use crate::wire::ApiKey;

/// A request by an app that may make it, its parts read.
pub(crate) struct Authorised<N, P = ()> {
    pub(crate) caller: Caller,
    pub(crate) parts: P,
    /// What is learnt late of the request.
    pub(crate) log: Log,
    needs: PhantomData<N>,
}

/// The log's line of a request.
pub(crate) struct Log(HttpRequest);

impl Log {
    /// Says which session it is about.
    pub(crate) fn about(&self, id: SessionId) {
        Noted::on(&self.0, |noted| noted.is_about(id));
    }
}

impl<N: Needs, P: Part + 'static> FromRequest for Authorised<N, P> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        let mut payload = payload.take();
        Box::pin(async move {
            uri::check(&request)?;
            let body = body::read(&request, &mut payload).await?;
            let caller = admit(&request, N::ONE_OF).await?;
            let parts = P::read(&request, &body)?;
            Ok(Self { caller, parts, log: Log(request), needs: PhantomData })
        })
    }
}

impl<N, P: Part> IntoParams for Authorised<N, P> {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        P::parameters()
    }
}

impl<N: Needs, P: Fails> Fails for Authorised<N, P> {
    fn codes() -> Vec<Code> {
        let mut codes = P::codes();
        codes.extend([Code::MissingApiKey, Code::InvalidApiKey, Code::Internal]);
        codes.extend([Code::TooManyRequests, Code::TooManyFailedAttempts, Code::Unavailable]);
        codes.extend([Code::ClientClosedRequest, Code::Overloaded, Code::TimedOut]);
        // Whatever a call is, its body is read.
        codes.extend([
            Code::BodyIncomplete,
            Code::BodyTimeout,
            Code::BodyTooLarge,
            Code::UriTooLong,
        ]);
        if !N::ONE_OF.is_empty() {
            codes.push(Code::MissingPermission);
        }
        codes
    }
}

async fn admit(request: &HttpRequest, one_of: &[Permission]) -> Result<Caller, Problem> {
    let caller = authenticate::admit(request, bearer(request)?).await?;
    permitted(caller.app().permissions, one_of)?;
    Ok(caller)
}

/// Who lacks all of several permissions hears of the first, the least of them.
fn permitted(held: Permissions, one_of: &[Permission]) -> Result<(), AuthError> {
    match one_of.first() {
        Some(least) if !one_of.iter().any(|one| held.has(*one)) => {
            Err(AuthError::Permission(*least))
        }
        _ => Ok(()),
    }
}

/// The API key of a request; access tokens are for the other API.
fn bearer(request: &HttpRequest) -> Result<&str, Problem> {
    let mut headers = request.headers().get_all(AUTHORIZATION);
    let header = headers.next().and_then(|header| header.to_str().ok());
    let (_, key) = header
        .and_then(|header| header.trim().split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Bearer"))
        .ok_or(AuthError::MissingToken)?;
    if headers.next().is_some() {
        return Err(Problem::of(Code::InvalidApiKey, "Authorization", "appears more than once"));
    }
    let key = key.trim_start();
    if ApiKey::recognise(key).is_none() {
        let why = format_args!("not an API key, which begins with {}", ApiKey::PREFIX);
        return Err(Problem::of(Code::InvalidApiKey, "Authorization", why));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::http::shared::permission::{Anything, Reads, Writes};
    use crate::http::v1::extract::json::Json;
    use crate::http::v1::extract::precondition::IfMatch;
    use crate::http::v1::extract::query::{Nothing, Query};

    #[test]
    fn one_of_the_permissions_is_enough() {
        use Permission::{Callbacks, SessionsAdmin, SessionsRead, SessionsWrite};
        for (held, reads, writes) in [
            (&[][..], false, false),
            (&[Callbacks], false, false),
            (&[SessionsRead], true, false),
            (&[SessionsWrite], false, true),
            (&[SessionsAdmin], true, true),
        ] {
            let held = held.iter().copied().collect();
            assert_eq!(permitted(held, Anything::ONE_OF), Ok(()));
            let told = |allowed: bool, least| {
                if allowed { Ok(()) } else { Err(AuthError::Permission(least)) }
            };
            assert_eq!(permitted(held, Reads::ONE_OF), told(reads, SessionsRead));
            assert_eq!(permitted(held, Writes::ONE_OF), told(writes, SessionsWrite));
        }
    }

    type Parts = (Query<Nothing>, IfMatch, Json<Nothing>);

    #[test]
    fn parts_are_read_in_their_order() {
        let read = |query: &str, tag: &str, body: &str| {
            let request = TestRequest::with_uri(&format!("/?{query}"));
            let request = request.insert_header(("If-Match", tag)).to_http_request();
            let read = Parts::read(&request, body.as_bytes());
            read.map(drop).map_err(|problem| problem.code())
        };
        assert_eq!(read("a", "5", "["), Err(Code::UnknownParameter));
        assert_eq!(read("", "5", "["), Err(Code::InvalidHeader));
        assert_eq!(read("", "\"5\"", "["), Err(Code::MalformedBody));
        assert_eq!(read("", "\"5\"", "{}"), Ok(()));
    }

    #[test]
    fn a_call_has_the_problems_of_all_its_parts() {
        let codes = Authorised::<Writes, Parts>::codes();
        for code in [
            Code::MissingApiKey,
            Code::MissingPermission,
            Code::UnknownParameter,
            Code::InvalidHeader,
            Code::MalformedBody,
            Code::BodyTooLarge,
            Code::UriTooLong,
        ] {
            assert!(codes.contains(&code), "{code:?}");
        }
        let codes = Authorised::<Anything>::codes();
        assert!(!codes.contains(&Code::MissingPermission));
        for code in [Code::BodyIncomplete, Code::BodyTimeout, Code::BodyTooLarge] {
            assert!(codes.contains(&code), "{code:?}");
        }
    }

    fn read(headers: &[&str]) -> Result<String, &'static str> {
        let request = headers.iter().fold(TestRequest::default(), |request, header| {
            request.append_header((AUTHORIZATION, *header))
        });
        let key = bearer(&request.to_http_request()).map(str::to_owned);
        key.map_err(|problem| problem.code().name())
    }

    #[test]
    fn a_key_stands_behind_bearer_and_only_once() {
        for header in ["Bearer msk_a", "bearer msk_a", "BEARER   msk_a", " Bearer msk_a "] {
            assert_eq!(read(&[header]).as_deref(), Ok("msk_a"), "{header}");
        }
        for headers in [&[][..], &[""], &["Bearer"], &["Basic bXNrX2E="], &["msk_a"]] {
            assert_eq!(read(headers), Err("missing_api_key"), "{headers:?}");
        }
        for headers in [&["Bearer abc.def"][..], &["Bearer msk_a", "Bearer msk_a"]] {
            assert_eq!(read(headers), Err("invalid_api_key"), "{headers:?}");
        }
    }
}
