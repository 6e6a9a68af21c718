//! The header `Authorization: Bearer`, for every API. Each API decides which credentials it takes.

use actix_web::http::header::{AUTHORIZATION, HeaderMap};

/// The header stands in the request more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RepeatedHeader;

/// The credential in the header; `None` if the request has no header or one of another scheme.
///
/// # Errors
/// [`RepeatedHeader`] if another header follows the credential.
pub(crate) fn find(headers: &HeaderMap) -> Result<Option<&str>, RepeatedHeader> {
    let mut headers = headers.get_all(AUTHORIZATION);
    let header = headers.next().and_then(|header| header.to_str().ok());
    let parts = header.and_then(|header| header.trim().split_once(' '));
    match parts.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Bearer")) {
        None => Ok(None),
        Some(_) if headers.next().is_some() => Err(RepeatedHeader),
        Some((_, credential)) => Ok(Some(credential.trim_start())),
    }
}
