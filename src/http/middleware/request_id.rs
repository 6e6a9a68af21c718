//! `X-Request-Id`: the id by which a caller finds a request in the log.
//!
//! The caller's id is used if it is short and plain, and cannot be a secret of this service.

use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use uuid::Uuid;

use super::request_context::RequestContext;
use crate::wire::ApiKey;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longer ids of callers are replaced. Access tokens are longer; ids in practice are not.
const MAX_ID_LEN: usize = 64;

/// The caller's id, or a new one of 32 hexadecimal digits.
pub(crate) fn choose(request: &ServiceRequest) -> HeaderValue {
    let requested = request.headers().get(REQUEST_ID).filter(|id| is_reasonable(id));
    requested.cloned().unwrap_or_else(|| {
        let mut digits = [0; 32];
        let id = Uuid::from_u128(rand::random()).simple().encode_lower(&mut digits);
        HeaderValue::from_str(id).unwrap_or_else(|_| HeaderValue::from_static("-"))
    })
}

/// Writes the id of a request into its response.
pub(crate) fn write<B>(response: &mut ServiceResponse<B>, context: &RequestContext) {
    response.headers_mut().insert(REQUEST_ID, context.request_id().clone());
}

fn is_reasonable(id: &HeaderValue) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._:/+=@-".contains(c);
    (1..=MAX_ID_LEN).contains(&id.len())
        && id.to_str().is_ok_and(|id| id.chars().all(is_plain) && !id.contains(ApiKey::PREFIX))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn only_a_short_plain_id_of_the_caller_is_accepted() {
        let long = "x".repeat(MAX_ID_LEN + 1);
        for (requested, is_accepted) in [
            ("job-42/retry:1", true),
            (&long[1..], true),
            (&long, false),
            ("", false),
            ("two words", false),
            ("a,b", false),
            ("msk_0123456789", false),
        ] {
            let request =
                TestRequest::default().insert_header((REQUEST_ID, requested)).to_srv_request();
            let id = choose(&request);
            assert_eq!(id == requested, is_accepted, "{requested:?}");
            assert!(is_accepted || id.len() == 32, "{requested:?}: {id:?}");
        }
    }
}
