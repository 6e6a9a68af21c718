//! The extractor of every endpoint that needs an API key. That of a body with many lines is
//! [`super::streamed`].
//!
//! The extractor authenticates the caller by the header, then reads the body, then the
//! [`RequestPart`]s. An error of the body comes before one of the caller. This order decides which
//! error the client gets if the request has several.

use std::marker::PhantomData;
use std::pin::Pin;

use actix_web::http::Method;
use actix_web::{FromRequest, HttpRequest, dev};
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::conditions;
use super::part::RequestPart;
use super::request_memory::RequestMemory;
use super::request_record::RequestRecord;
use crate::domain::{MessageForm, Permission, Permissions};
use crate::http::auth::authenticate::AuthRejection;
use crate::http::auth::bearer::{self, RepeatedHeader};
use crate::http::auth::{authenticate, caller_body};
use crate::http::body::Body;
use crate::http::middleware::response_budget;
use crate::http::shared::permission::RequiredPermission;
use crate::http::uri;
use crate::http::v1::problem::{Code, ErrorCodes, Problem};
use crate::service::{AuthError, Caller};
use crate::wire::ApiKey;

/// A request of an app with the permission `N`, and the parts of the request.
pub(crate) struct Authorized<N, P = ()> {
    pub(crate) caller: Caller,
    pub(crate) parts: P,
    /// The record of the request, for facts that only the handler learns.
    pub(crate) record: RequestRecord,
    /// The memory of the request, until it ends: the parts hold the content of the body.
    pub(crate) memory: RequestMemory,
    permission: PhantomData<N>,
}

impl<N: RequiredPermission, P: RequestPart + 'static> FromRequest for Authorized<N, P> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        let mut payload = payload.take();
        Box::pin(async move {
            uri::check_len(&request)?;
            let authenticated = authenticate(&request, N::ANY_OF).await;
            let (caller, body) = caller_body::read(&request, &mut payload, authenticated).await?;
            let is_read = [Method::GET, Method::HEAD].contains(request.method());
            if !P::HAS_CONDITIONS && !is_read {
                conditions::refuse(&request, "the endpoint has no version to match")?;
            }
            let Body { bytes, in_flight, turn } = body;
            let parts = match turn {
                Some(_) => P::read_large(&request, &bytes).await?,
                None => P::read(&request, &bytes)?,
            };
            drop(turn);
            let record = RequestRecord::new(request);
            let memory = RequestMemory::new(in_flight);
            Ok(Self { caller, parts, record, memory, permission: PhantomData })
        })
    }
}

impl<N, P: RequestPart> IntoParams for Authorized<N, P> {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        P::parameters()
    }
}

impl<N: RequiredPermission, P: ErrorCodes> ErrorCodes for Authorized<N, P> {
    fn codes() -> Vec<Code> {
        let mut codes = P::codes();
        codes.extend([Code::MissingApiKey, Code::InvalidApiKey, Code::Internal]);
        codes.extend([Code::TooManyRequests, Code::TooManyFailedAttempts, Code::Unavailable]);
        codes.extend([Code::ClientClosedRequest, Code::Overloaded, Code::TimedOut]);
        // The body of every request is read.
        codes.extend([
            Code::BodyIncomplete,
            Code::BodyTimeout,
            Code::BodyTooLarge,
            Code::UriTooLong,
        ]);
        // The header of a condition that the endpoint does not support.
        codes.push(Code::InvalidHeader);
        if !N::ANY_OF.is_empty() {
            codes.push(Code::MissingPermission);
        }
        codes
    }
}

/// Authenticates the caller of a request, who must have one of these permissions.
pub(super) async fn authenticate(
    request: &HttpRequest,
    any_of: &[Permission],
) -> Result<Caller, Problem> {
    let caller = authenticate::authenticate(request, bearer_token(request)?).await?;
    permit(request, caller, any_of)
}

/// The same for a further part of a long request: the credential may be invalid by now. Waits until the
/// rate of the app permits the part.
pub(super) async fn authenticate_part(
    request: &HttpRequest,
    any_of: &[Permission],
) -> Result<Caller, Problem> {
    loop {
        match authenticate::authenticate(request, bearer_token(request)?).await {
            Err(AuthRejection::RateLimited { wait, .. }) => tokio::time::sleep(wait).await,
            authenticated => return permit(request, authenticated?, any_of),
        }
    }
}

/// Requires a permission, and room for the response of a write.
fn permit(request: &HttpRequest, caller: Caller, any_of: &[Permission]) -> Result<Caller, Problem> {
    require_permission(&caller, any_of)?;
    if any_of.contains(&Permission::SessionsWrite) {
        response_budget::check_room(request, caller.app().buin)?;
    }
    // An endpoint that needs no permission has no message of a session.
    if !any_of.is_empty() {
        caller.require_form(MessageForm::Plain)?;
    }
    Ok(caller)
}

pub(super) fn require_permission(caller: &Caller, any_of: &[Permission]) -> Result<(), Problem> {
    let granted = check_any_permission(caller.permissions(), any_of);
    Ok(granted.map_err(|least| caller.missing(least))?)
}

/// Requires one of several permissions. The error names the first one, which is the weakest.
fn check_any_permission(granted: Permissions, any_of: &[Permission]) -> Result<(), Permission> {
    match any_of.first() {
        Some(first) if !any_of.iter().any(|permission| granted.contains(*permission)) => {
            Err(*first)
        }
        _ => Ok(()),
    }
}

/// The API key of a request; access tokens are for the other API.
pub(super) fn bearer_token(request: &HttpRequest) -> Result<&str, Problem> {
    let twice = |RepeatedHeader| {
        Problem::for_field(Code::InvalidApiKey, "Authorization", "appears more than once")
    };
    let key = bearer::find(request.headers()).map_err(twice)?.ok_or(AuthError::MissingToken)?;
    if ApiKey::parse(key).is_none() {
        let reason = format_args!("not an API key, which begins with {}", ApiKey::PREFIX);
        return Err(Problem::for_field(Code::InvalidApiKey, "Authorization", reason));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::AUTHORIZATION;
    use actix_web::test::TestRequest;

    use super::*;
    use crate::http::shared::permission::{AnyKey, CanRead, CanWrite};
    use crate::http::v1::extract::conditions::WriteConditions;
    use crate::http::v1::extract::json::Json;
    use crate::http::v1::extract::query::{NoParams, Query};

    #[test]
    fn any_of_the_permissions_is_enough() {
        use Permission::{Callbacks, SessionsAdmin, SessionsRead, SessionsWrite};
        for (granted, reads, writes) in [
            (&[][..], false, false),
            (&[Callbacks], false, false),
            (&[SessionsRead], true, false),
            (&[SessionsWrite], false, true),
            (&[SessionsAdmin], true, true),
        ] {
            let granted = granted.iter().copied().collect();
            assert_eq!(check_any_permission(granted, AnyKey::ANY_OF), Ok(()));
            let expected = |allowed: bool, least| {
                if allowed { Ok(()) } else { Err(least) }
            };
            assert_eq!(
                check_any_permission(granted, CanRead::ANY_OF),
                expected(reads, SessionsRead)
            );
            assert_eq!(
                check_any_permission(granted, CanWrite::ANY_OF),
                expected(writes, SessionsWrite)
            );
        }
    }

    type Parts = (Query<NoParams>, WriteConditions, Json<NoParams>);

    #[test]
    fn request_parts_are_read_in_order() {
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
    fn error_codes_of_all_parts_are_listed() {
        let codes = Authorized::<CanWrite, Parts>::codes();
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
        let codes = Authorized::<AnyKey>::codes();
        assert!(!codes.contains(&Code::MissingPermission));
        for code in [Code::BodyIncomplete, Code::BodyTimeout, Code::BodyTooLarge] {
            assert!(codes.contains(&code), "{code:?}");
        }
    }

    fn read(headers: &[&str]) -> Result<String, &'static str> {
        let request = headers.iter().fold(TestRequest::default(), |request, header| {
            request.append_header((AUTHORIZATION, *header))
        });
        let key = bearer_token(&request.to_http_request()).map(str::to_owned);
        key.map_err(|problem| problem.code().name())
    }

    #[test]
    fn authorization_is_one_bearer_key() {
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
