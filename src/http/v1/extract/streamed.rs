//! The extractor of an endpoint whose body has many lines, which the handler reads part by part.
//! Otherwise the extractor works like [`super::authorized`].

use std::marker::PhantomData;
use std::pin::Pin;

use actix_web::{FromRequest, HttpRequest, dev};
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::authorized::{self, Authorized};
use super::conditions;
use super::ndjson::NdjsonBody;
use super::part::RequestPart;
use crate::http::body;
use crate::http::shared::permission::RequiredPermission;
use crate::http::uri;
use crate::http::v1::problem::{Code, ErrorCodes, Problem};
use crate::service::Caller;

/// A request of an app with the permission `N`, its parts beside the body, and the body.
pub(crate) struct Streamed<N, P = ()> {
    pub(crate) caller: Caller,
    pub(crate) parts: P,
    pub(crate) body: NdjsonBody,
    permission: PhantomData<N>,
}

/// Authenticates the caller again, before a further part of the body is used. Waits until the rate of the
/// app permits the part.
///
/// # Errors
/// If the caller is no longer authorized.
pub(crate) async fn authenticate_part<N: RequiredPermission>(
    body: &NdjsonBody,
) -> Result<(), Problem> {
    authorized::authenticate_part(body.request(), N::ANY_OF).await?;
    body.mark_reading();
    Ok(())
}

impl<N: RequiredPermission, P: RequestPart + 'static> FromRequest for Streamed<N, P> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        let mut payload = payload.take();
        Box::pin(async move {
            uri::check_len(&request)?;
            let caller = match authorized::authenticate(&request, N::ANY_OF).await {
                Ok(caller) => caller,
                Err(refusal) => {
                    body::discard(&request, &mut payload).await?;
                    return Err(refusal);
                }
            };
            conditions::refuse(&request, "the endpoint has no version to match")?;
            let parts = P::read(&request, &[])?;
            let body = NdjsonBody::new(request, payload)?;
            Ok(Self { caller, parts, body, permission: PhantomData })
        })
    }
}

impl<N, P: RequestPart> IntoParams for Streamed<N, P> {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        P::parameters()
    }
}

impl<N: RequiredPermission, P: ErrorCodes> ErrorCodes for Streamed<N, P> {
    fn codes() -> Vec<Code> {
        let mut codes = Authorized::<N, P>::codes();
        codes.extend([Code::MalformedBody, Code::UnsupportedMediaType]);
        codes.extend([
            Code::InvalidField,
            Code::MissingField,
            Code::UnknownField,
            Code::DuplicateField,
        ]);
        codes
    }
}
