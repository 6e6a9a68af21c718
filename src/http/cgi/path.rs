//! Paths of `/cgi` as clients write them. Clients join a base URL and a path, and a slash at the end
//! of one or the beginning of the other is often doubled. So a doubled and a trailing slash do not
//! matter below `/cgi`. Paths of the other APIs are taken as they are.

use actix_web::dev::{ServiceRequest, Url};
use actix_web::http::Uri;
use actix_web::http::uri::PathAndQuery;

/// Removes needless slashes from the path of a request to `/cgi`. Other requests stay as they are.
pub(in crate::http) fn normalize(request: &mut ServiceRequest) {
    let Some(uri) = normalized(request.uri()) else { return };
    // The router reads the path here, the handlers read it there.
    request.match_info_mut().set(Url::new(uri.clone()));
    request.head_mut().uri = uri;
}

/// The URI without needless slashes; `None` if it has none, or is not one of `/cgi`.
fn normalized(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    let may_be_cgi = path.starts_with("/cgi/") || path.starts_with("//");
    // Paths are short, so a loop over the bytes is faster than the start of a search.
    let is_doubled = || path.as_bytes().windows(2).any(|pair| pair == b"//");
    if !may_be_cgi || !(path.ends_with('/') || is_doubled()) {
        return None;
    }
    let mut segments = path.split('/').filter(|segment| !segment.is_empty()).peekable();
    if segments.peek() != Some(&"cgi") {
        return None;
    }
    let mut text = String::with_capacity(path.len());
    for segment in segments {
        text.push('/');
        text.push_str(segment);
    }
    if let Some(query) = uri.query() {
        text.push('?');
        text.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(text).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needless_slashes_are_removed_below_cgi_only() {
        let path = |text: &str| {
            let uri: Uri = text.parse().unwrap();
            normalized(&uri).map(|uri| uri.path_and_query().unwrap().to_string())
        };
        for (text, expected) in [
            ("//cgi/gettoken", "/cgi/gettoken"),
            ("/cgi/gettoken/", "/cgi/gettoken"),
            ("///cgi//session///get//?a=//b/", "/cgi/session/get?a=//b/"),
            ("/cgi/session/get/?", "/cgi/session/get?"),
            ("/cgi//%2F/x", "/cgi/%2F/x"),
            ("http://muster//cgi/gettoken/", "/cgi/gettoken"),
            ("/cgi/", "/cgi"),
        ] {
            assert_eq!(path(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "/cgi/gettoken",
            "/cgi/session/get?a=//",
            "/",
            "//",
            "//v1/sessions",
            "/v1/sessions/",
            "/x//cgi/gettoken",
            "/cgix//a",
        ] {
            assert_eq!(path(text), None, "{text}");
        }
    }
}
