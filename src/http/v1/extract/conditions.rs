//! Conditional requests (RFC 9110, section 13): the only place that evaluates their headers.
//!
//! - A `GET` or `HEAD` is evaluated after its handler, by the `ETag` of the response. A response
//!   without `ETag` matches no tag. An error is not replaced, as the standard demands.
//! - A change of a session has the part [`WriteConditions`]: the session is compared when the change
//!   is decided, after all other rules of access.
//! - Any other request is refused by [`refuse`], because its condition would be ignored otherwise.
//!
//! The entity tag of a session is its version, as `"5"`. No response has `Last-Modified`: two
//! changes in one second would have the same date. So a condition with a date is refused, unless a
//! condition with tags replaces it. The surprise: `If-Range` is ignored in reads, because the
//! standard demands it where no part of a representation can be requested.

use actix_web::http::header::{
    CACHE_CONTROL, ETAG, HeaderMap, HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, IF_UNMODIFIED_SINCE, VARY,
};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse};
use utoipa::openapi::path::Parameter;

use super::field::truncate;
use super::parameter::standard_header;
use super::part::RequestPart;
use crate::domain::{ExcludedVersions, Version, VersionPrecondition, quoted};
use crate::http::shared::conditions;
use crate::http::v1::problem::{Code, ErrorCodes, Problem};

/// The conditions of a read, for the description.
pub(crate) struct ReadConditions;

/// The conditions of a change.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct WriteConditions {
    /// The versions that the session may have; `None` if every version will do.
    pub(crate) precondition: Option<VersionPrecondition>,
    /// A tag of `If-Match`, if all its tags are weak.
    pub(crate) weak_tag: Option<String>,
    /// A strong tag of `If-Match` that is no number, if none of them is a version.
    pub(crate) foreign_tag: Option<String>,
    /// Whether `If-None-Match` is `*`.
    excludes_all: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum EntityTags {
    /// `*`
    Any,
    /// In their order.
    List(Vec<EntityTag>),
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct EntityTag {
    weak: bool,
    /// The text between the quotation marks.
    opaque: String,
}

impl EntityTag {
    /// The version of the tag. Only the form that responses use is a version.
    fn version(&self) -> Option<Version> {
        let version = Version::new(self.opaque.parse().ok()?).ok()?;
        (version.to_string() == self.opaque).then_some(version)
    }
}

impl EntityTags {
    /// Whether one of the tags is that of the response. A strong comparison never matches weak
    /// tags.
    fn match_tag(&self, current: Option<&str>, strongly: bool) -> bool {
        match self {
            Self::Any => true,
            Self::List(tags) => tags
                .iter()
                .any(|tag| !(strongly && tag.weak) && Some(tag.opaque.as_str()) == current),
        }
    }
}

/// Refuses every condition; `if_match` is the reason for `If-Match`.
pub(crate) fn refuse(request: &HttpRequest, if_match: &str) -> Result<(), Problem> {
    let Some(name) = conditions::find(request.headers()) else { return Ok(()) };
    let reason = if name == "If-Match" { if_match } else { "is not supported by this endpoint" };
    Err(Problem::for_field(Code::InvalidHeader, name, reason))
}

/// The conditions of a change as text, the same for each request with these conditions; empty without
/// conditions. Dates are left out, because tags replace them.
pub(crate) fn fingerprint(request: &HttpRequest) -> Result<String, Problem> {
    let mut lines = Vec::new();
    for (header, name) in [(IF_MATCH, "If-Match"), (IF_NONE_MATCH, "If-None-Match")] {
        let tags = match read_tags(request.headers(), header, name)? {
            None => continue,
            Some(EntityTags::Any) => "*".to_owned(),
            Some(EntityTags::List(mut tags)) => {
                tags.sort_unstable();
                tags.dedup();
                let texts = tags.iter().map(|EntityTag { opaque, weak }| match weak {
                    true => format!("W/\"{opaque}\""),
                    false => format!("\"{opaque}\""),
                });
                texts.collect::<Vec<_>>().join(", ")
            }
        };
        lines.push(format!("{name}: {tags}"));
    }
    Ok(lines.join("\n"))
}

/// Evaluates the conditions of a read that succeeded. Returns the response that replaces its
/// response, if any.
pub(crate) fn evaluate_read(
    request: &HttpRequest,
    status: StatusCode,
    response: &HeaderMap,
) -> Result<Option<HttpResponse>, Problem> {
    let is_read = [Method::GET, Method::HEAD].contains(request.method());
    let headers = request.headers();
    if !is_read || status != StatusCode::OK || conditions::find(headers).is_none() {
        return Ok(None);
    }
    let tag = response.get(ETAG).and_then(|tag| tag.to_str().ok());
    let opaque = tag.map(|tag| tag.trim_matches('"'));
    let if_match = read_tags(headers, IF_MATCH, "If-Match")?;
    if if_match.is_some_and(|tags| !tags.match_tag(opaque, true)) {
        let reason = match tag {
            Some(tag) => format!(
                "the current entity tag is {tag}; weak tags never match, and a proxy that compresses \
                 responses changes tags"
            ),
            None => "the response has no entity tag".to_owned(),
        };
        return Err(
            Problem::for_field(Code::PreconditionFailed, "If-Match", reason).with_current_tag(tag)
        );
    }
    let if_none_match = read_tags(headers, IF_NONE_MATCH, "If-None-Match")?;
    refuse_dates(headers)?;
    if if_none_match.is_none_or(|tags| !tags.match_tag(opaque, false)) {
        return Ok(None);
    }
    let mut not_modified = HttpResponse::NotModified();
    for name in [ETAG, CACHE_CONTROL, VARY] {
        if let Some(value) = response.get(&name) {
            not_modified.insert_header((name, value.clone()));
        }
    }
    Ok(Some(not_modified.finish()))
}

/// Refuses the dates that no tags replace: `If-Match` replaces `If-Unmodified-Since`, and
/// `If-None-Match` replaces `If-Modified-Since`.
fn refuse_dates(headers: &HeaderMap) -> Result<(), Problem> {
    for (date, name, tags, tags_name) in [
        (IF_UNMODIFIED_SINCE, "If-Unmodified-Since", IF_MATCH, "If-Match"),
        (IF_MODIFIED_SINCE, "If-Modified-Since", IF_NONE_MATCH, "If-None-Match"),
    ] {
        if headers.contains_key(date) && !headers.contains_key(tags) {
            let reason = format_args!("has only whole seconds: use {tags_name} with the ETag");
            return Err(Problem::for_field(Code::InvalidHeader, name, reason));
        }
    }
    Ok(())
}

impl ErrorCodes for ReadConditions {
    fn codes() -> Vec<Code> {
        vec![Code::InvalidHeader, Code::PreconditionFailed]
    }
}

impl ErrorCodes for WriteConditions {
    fn codes() -> Vec<Code> {
        vec![Code::InvalidHeader, Code::PreconditionFailed, Code::VersionConflict]
    }
}

impl RequestPart for ReadConditions {
    fn read(_: &HttpRequest, _: &[u8]) -> Result<Self, Problem> {
        Ok(Self)
    }

    fn parameters() -> Vec<Parameter> {
        let description = "The versions that the caller already has, in the form of `ETag`: \"5\".";
        vec![standard_header("If-None-Match", description, "\"5\"")]
    }
}

impl RequestPart for WriteConditions {
    const HAS_CONDITIONS: bool = true;

    fn read(request: &HttpRequest, _: &[u8]) -> Result<Self, Problem> {
        let headers = request.headers();
        if conditions::find(headers).is_none() {
            return Ok(Self::default());
        }
        let if_match = read_tags(headers, IF_MATCH, "If-Match")?;
        let if_none_match = read_tags(headers, IF_NONE_MATCH, "If-None-Match")?;
        refuse_dates(headers)?;
        if headers.contains_key(IF_RANGE) {
            let reason = "is not supported by a change";
            return Err(Problem::for_field(Code::InvalidHeader, "If-Range", reason));
        }
        let versions = |tags: &[EntityTag]| tags.iter().filter_map(EntityTag::version).collect();
        let (mut weak_tag, mut foreign_tag) = (None, None);
        let any_of = match if_match {
            None | Some(EntityTags::Any) => None,
            // `If-Match` compares strongly: a weak tag never matches.
            Some(EntityTags::List(mut tags)) => {
                let weak = tags.iter().find(|tag| tag.weak).map(|tag| truncate(&tag.opaque));
                tags.retain(|tag| !tag.weak);
                weak_tag = weak.filter(|_| tags.is_empty());
                let any_of: Vec<Version> = versions(&tags);
                let is_foreign = |tag: &&EntityTag| !tag.opaque.bytes().all(|b| b.is_ascii_digit());
                let foreign = tags.iter().find(is_foreign).filter(|_| any_of.is_empty());
                foreign_tag = foreign.map(|tag| truncate(&tag.opaque));
                Some(any_of)
            }
        };
        let excludes_all = if_none_match == Some(EntityTags::Any);
        let none_of = match if_none_match {
            None => ExcludedVersions::default(),
            Some(EntityTags::Any) => ExcludedVersions::All,
            Some(EntityTags::List(tags)) => ExcludedVersions::Listed(versions(&tags)),
        };
        let precondition = Some(VersionPrecondition::new(any_of, none_of));
        Ok(Self { precondition, weak_tag, foreign_tag, excludes_all })
    }

    fn parameters() -> Vec<Parameter> {
        let description = "The accepted versions of the session, in the form of `ETag`: \"5\".";
        vec![standard_header("If-Match", description, "\"5\"")]
    }
}

impl WriteConditions {
    /// Refuses `If-None-Match: *`, for a member: the tags are those of the session, and the session
    /// exists whether the account is a member or not.
    pub(crate) fn refuse_any_tag(&self) -> Result<(), Problem> {
        if self.excludes_all {
            let reason = "must be a list of entity tags, got *: a member has no tag of its own";
            return Err(Problem::for_field(Code::InvalidHeader, "If-None-Match", reason));
        }
        Ok(())
    }
}

/// The tags in a header; `None` without the header.
fn read_tags(
    headers: &HeaderMap,
    header: HeaderName,
    name: &str,
) -> Result<Option<EntityTags>, Problem> {
    if !headers.contains_key(&header) {
        return Ok(None);
    }
    let lines = headers.get_all(header).map(|line| String::from_utf8_lossy(line.as_bytes()));
    // Several header lines form one list.
    let list = lines.collect::<Vec<_>>().join(",");
    // No tag has other bytes than ASCII.
    let tags = Some(list.as_str()).filter(|list| list.is_ascii()).and_then(parse_tags);
    tags.map(Some).ok_or_else(|| {
        let got = quoted(&list);
        let reason = format!("must be * or a list of entity tags such as \"5\", got {got}");
        Problem::for_field(Code::InvalidHeader, name, reason)
    })
}

fn parse_tags(list: &str) -> Option<EntityTags> {
    if list.trim() == "*" {
        return Some(EntityTags::Any);
    }
    let mut tags = Vec::new();
    let mut rest = list.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let weak_tag = rest.strip_prefix("W/");
        let weak = weak_tag.is_some();
        let (tag, after) = weak_tag.unwrap_or(rest).strip_prefix('"')?.split_once('"')?;
        tags.push(EntityTag { weak, opaque: tag.to_owned() });
        let after = after.trim_start_matches([' ', '\t']);
        if !after.is_empty() && !after.starts_with(',') {
            return None;
        }
        rest = after.trim_start_matches([' ', '\t', ',']);
    }
    // A list may be empty: it matches no version.
    Some(EntityTags::List(tags))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn request(method: &Method, headers: &[(&str, &str)]) -> HttpRequest {
        let request = TestRequest::default().method(method.clone());
        let add = |request: TestRequest, header: &(&str, &str)| request.append_header(*header);
        headers.iter().fold(request, add).to_http_request()
    }

    fn write(headers: &[(&str, &str)]) -> Result<WriteConditions, &'static str> {
        let read = WriteConditions::read(&request(&Method::PATCH, headers), b"");
        read.map_err(|problem| problem.code().name())
    }

    fn condition(any_of: Option<&[i64]>, none_of: ExcludedVersions) -> Option<VersionPrecondition> {
        let any_of = any_of.map(|versions| versions.iter().copied());
        let any_of = any_of.map(|versions| versions.map(|n| Version::new(n).unwrap()).collect());
        Some(VersionPrecondition::new(any_of, none_of))
    }

    #[test]
    fn if_match_lists_versions() {
        let read = |lines: &[&str]| {
            let headers: Vec<_> = lines.iter().map(|line| ("If-Match", *line)).collect();
            write(&headers).map(|conditions| conditions.precondition)
        };
        let expected = |versions| Ok(condition(versions, ExcludedVersions::default()));
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[" * "]), expected(None));
        assert_eq!(read(&["\"5\""]), expected(Some(&[5])));
        assert_eq!(read(&["\"5\" , ,\"6\"", "\"7\""]), expected(Some(&[5, 6, 7])));
        // Weak tags, and tags that no session has.
        for never in
            ["W/\"5\"", "\"\"", "\"05\"", "\"+5\"", "\"0\"", "\"a,b\"", "\"5 \"", "", " , "]
        {
            assert_eq!(read(&[never]), expected(Some(&[])), "{never}");
        }
        for wrong in ["5", "\"5", "5\"", "\"5\"\"6\"", "\"5\" 6", "*, \"5\"", "w/\"5\""] {
            assert_eq!(read(&[wrong]), Err("invalid_header"), "{wrong}");
        }
    }

    #[test]
    fn weak_tag_is_kept_for_the_problem() {
        for (tags, weak) in [
            ("W/\"5\"", Some("5")),
            ("W/\"5\", W/\"6\"", Some("5")),
            ("W/\"5\", \"6\"", None),
            ("\"5\"", None),
            ("*", None),
        ] {
            let found = write(&[("If-Match", tags)]).unwrap().weak_tag;
            assert_eq!(found.as_deref(), weak, "{tags}");
        }
    }

    #[test]
    fn foreign_tag_is_kept_for_the_problem() {
        for (tags, foreign) in [
            ("\"5-gzip\"", Some("5-gzip")),
            ("\"05\", \"x\"", Some("x")),
            ("\"05\", \"\"", None),
            ("W/\"5\", \"5;br\"", Some("5;br")),
            ("\"5-gzip\", \"5\"", None),
            ("W/\"5\"", None),
            ("", None),
            ("*", None),
        ] {
            let found = write(&[("If-Match", tags)]).unwrap().foreign_tag;
            assert_eq!(found.as_deref(), foreign, "{tags}");
        }
    }

    #[test]
    fn fingerprint_is_that_of_the_condition() {
        let of = |headers: &[(&str, &str)]| fingerprint(&request(&Method::PATCH, headers)).unwrap();
        assert_eq!(of(&[]), "");
        let one = of(&[("If-Match", "\"6\" ,\"5\""), ("If-None-Match", "*")]);
        assert_eq!(one, "If-Match: \"5\", \"6\"\nIf-None-Match: *");
        let same = [("If-None-Match", "*"), ("If-Match", "\"5\""), ("If-Match", "\"6\",\"5\"")];
        assert_eq!(of(&same), one);
        for other in [
            &[("If-Match", "\"5\""), ("If-None-Match", "*")][..],
            &[("If-Match", "\"5\", W/\"6\""), ("If-None-Match", "*")],
            &[("If-Match", "\"5\", \"6\"")],
            &[("If-Match", "*"), ("If-None-Match", "\"5\", \"6\"")],
        ] {
            assert_ne!(of(other), one, "{other:?}");
        }
    }

    #[test]
    fn every_condition_of_a_change_is_evaluated_or_refused() {
        let listed = |versions: &[i64]| {
            let versions = versions.iter().map(|n| Version::new(*n).unwrap());
            ExcludedVersions::Listed(versions.collect())
        };
        let date = "Mon, 10 Jun 2024 06:13:20 GMT";
        for (headers, expected) in [
            (&[("If-None-Match", "*")][..], Ok(condition(None, ExcludedVersions::All))),
            // `If-None-Match` compares weakly.
            (&[("If-None-Match", "W/\"5\", \"x\"")], Ok(condition(None, listed(&[5])))),
            (
                &[("If-None-Match", "\"5\""), ("If-Match", "\"6\"")],
                Ok(condition(Some(&[6]), listed(&[5]))),
            ),
            (&[("If-None-Match", "5")], Err("invalid_header")),
            (&[("If-Unmodified-Since", date)], Err("invalid_header")),
            (&[("If-Modified-Since", date)], Err("invalid_header")),
            (&[("If-Modified-Since", "x"), ("If-Match", "*")], Err("invalid_header")),
            (
                &[("If-Unmodified-Since", date), ("If-Match", "*")],
                Ok(condition(None, ExcludedVersions::default())),
            ),
            (
                &[("If-Modified-Since", date), ("If-None-Match", "\"5\"")],
                Ok(condition(None, listed(&[5]))),
            ),
            (&[("If-Range", "\"5\"")], Err("invalid_header")),
        ] {
            let found = write(headers).map(|conditions| conditions.precondition);
            assert_eq!(found, expected, "{headers:?}");
        }
    }

    /// The status that replaces the response of a read with this tag, and its code.
    fn read(
        method: &Method,
        tag: Option<&str>,
        headers: &[(&str, &str)],
    ) -> Result<Option<u16>, &'static str> {
        let mut response = HttpResponse::Ok();
        if let Some(tag) = tag {
            response.insert_header((ETAG, tag));
        }
        let response = response.finish();
        let request = request(method, headers);
        let replaced = evaluate_read(&request, response.status(), response.headers());
        replaced
            .map(|replaced| replaced.map(|response| response.status().as_u16()))
            .map_err(|problem| problem.code().name())
    }

    #[test]
    fn reads_are_compared_with_the_tag_of_the_response() {
        let failed = || Err("precondition_failed");
        let date = "Mon, 10 Jun 2024 06:13:20 GMT";
        for (headers, tagged, untagged) in [
            (&[][..], Ok(None), Ok(None)),
            (&[("If-None-Match", "\"5\"")], Ok(Some(304)), Ok(None)),
            (&[("If-None-Match", "W/\"5\"")], Ok(Some(304)), Ok(None)),
            (&[("If-None-Match", "\"4\", \"5\"")], Ok(Some(304)), Ok(None)),
            (&[("If-None-Match", "\"4\"")], Ok(None), Ok(None)),
            (&[("If-None-Match", "*")], Ok(Some(304)), Ok(Some(304))),
            (&[("If-Match", "\"5\"")], Ok(None), failed()),
            (&[("If-Match", "W/\"5\"")], failed(), failed()),
            (&[("If-Match", "\"4\"")], failed(), failed()),
            (&[("If-Match", "*")], Ok(None), Ok(None)),
            (&[("If-Match", "\"5\""), ("If-None-Match", "\"5\"")], Ok(Some(304)), failed()),
            (&[("If-Match", "5")], Err("invalid_header"), Err("invalid_header")),
            (&[("If-Unmodified-Since", date)], Err("invalid_header"), Err("invalid_header")),
            (&[("If-Modified-Since", date)], Err("invalid_header"), Err("invalid_header")),
            (&[("If-Modified-Since", date), ("If-None-Match", "\"4\"")], Ok(None), Ok(None)),
            (&[("If-Range", "\"5\""), ("Range", "bytes=0-1")], Ok(None), Ok(None)),
        ] {
            for method in [Method::GET, Method::HEAD] {
                assert_eq!(read(&method, Some("\"5\""), headers), tagged, "{headers:?}");
                assert_eq!(read(&method, None, headers), untagged, "{headers:?}");
            }
            assert_eq!(read(&Method::POST, Some("\"5\""), headers), Ok(None), "{headers:?}");
        }
    }

    #[test]
    fn error_quotes_the_received_tags() {
        let long = "x".repeat(100);
        for (headers, got) in [
            (&["five"][..], r#""five""#),
            (&["\"1\"", "2"], r#""\"1\",2""#),
            (&[long.as_str()], &format!("\"{}\"…", "x".repeat(64))),
        ] {
            let headers: Vec<_> = headers.iter().map(|value| ("If-Match", *value)).collect();
            let request = request(&Method::PATCH, &headers);
            let problem = read_tags(request.headers(), IF_MATCH, "If-Match").err().unwrap();
            let expected = format!(
                "invalid_header If-Match: must be * or a list of entity tags such as \"5\", got {got}"
            );
            assert_eq!(problem.to_string(), expected);
        }
    }

    #[test]
    fn errors_are_not_replaced() {
        let request = request(&Method::GET, &[("If-Match", "\"4\"")]);
        let headers = HeaderMap::new();
        for status in [StatusCode::NOT_FOUND, StatusCode::FORBIDDEN] {
            assert!(evaluate_read(&request, status, &headers).unwrap().is_none());
        }
    }

    #[test]
    fn other_requests_refuse_every_condition() {
        for (header, name) in conditions::HEADERS {
            let request = request(&Method::POST, &[(header.as_str(), "*")]);
            let problem = refuse(&request, "no version").unwrap_err();
            assert!(problem.to_string().starts_with(&format!("invalid_header {name}: ")));
        }
        assert!(refuse(&request(&Method::POST, &[]), "").is_ok());
    }
}
