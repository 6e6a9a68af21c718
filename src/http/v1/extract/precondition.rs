//! `If-Match` and `If-None-Match` (RFC 9110): the entity tag of a session is its version, as
//! `"5"`. A tag that is not a version belongs to no session: it never matches.

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use utoipa::openapi::path::Parameter;

use super::parameter::standard_header;
use super::part::RequestPart;
use crate::domain::Version;
use crate::http::v1::problem::{Code, ErrorCodes, Problem};

/// The versions in `If-Match`: the session must have one of them. `None` if any version will match.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct IfMatch(pub(crate) Option<Vec<Version>>);

/// The versions in `If-None-Match`: the caller already has them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct IfNoneMatch(EntityTags);

#[derive(Debug, PartialEq, Eq)]
enum EntityTags {
    /// `*`
    Any,
    /// In their order; empty if the header is absent.
    List(Vec<EntityTag>),
}

#[derive(Debug, PartialEq, Eq)]
struct EntityTag {
    weak: bool,
    version: Option<Version>,
}

impl IfNoneMatch {
    /// Whether the caller has this version already.
    pub(crate) fn matches(&self, version: Version) -> bool {
        match &self.0 {
            EntityTags::Any => true,
            EntityTags::List(tags) => tags.iter().any(|tag| tag.version == Some(version)),
        }
    }
}

impl ErrorCodes for IfMatch {
    fn codes() -> Vec<Code> {
        vec![Code::InvalidHeader]
    }
}

impl ErrorCodes for IfNoneMatch {
    fn codes() -> Vec<Code> {
        vec![Code::InvalidHeader]
    }
}

impl RequestPart for IfMatch {
    fn read(request: &HttpRequest, _: &[u8]) -> Result<Self, Problem> {
        if !request.headers().contains_key(IF_MATCH) {
            return Ok(Self(None));
        }
        Ok(Self(match read(request, IF_MATCH, "If-Match")? {
            EntityTags::Any => None,
            // `If-Match` compares strongly (RFC 9110): a weak tag never matches.
            EntityTags::List(tags) => {
                let strong = tags.into_iter().filter(|tag| !tag.weak);
                Some(strong.filter_map(|tag| tag.version).collect())
            }
        }))
    }

    fn parameters() -> Vec<Parameter> {
        let description = "The accepted versions of the session, in the form of `ETag`: \"5\".";
        vec![standard_header("If-Match", description, "\"5\"")]
    }
}

impl RequestPart for IfNoneMatch {
    fn read(request: &HttpRequest, _: &[u8]) -> Result<Self, Problem> {
        read(request, IF_NONE_MATCH, "If-None-Match").map(Self)
    }

    fn parameters() -> Vec<Parameter> {
        let description = "The versions that the caller already has, in the form of `ETag`: \"5\".";
        vec![standard_header("If-None-Match", description, "\"5\"")]
    }
}

fn read(request: &HttpRequest, header: HeaderName, name: &str) -> Result<EntityTags, Problem> {
    let wrong = || {
        let reason = "must be * or a list of entity tags such as \"5\"";
        Problem::for_field(Code::InvalidHeader, name, reason)
    };
    let lines: Option<Vec<&str>> =
        request.headers().get_all(header).map(|line| line.to_str().ok()).collect();
    let lines = lines.ok_or_else(wrong)?;
    if lines.is_empty() {
        return Ok(EntityTags::List(Vec::new()));
    }
    // Several header lines form one list.
    parse_tags(&lines.join(",")).ok_or_else(wrong)
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
        tags.push(EntityTag { weak, version: parse_version(tag) });
        let after = after.trim_start_matches([' ', '\t']);
        if !after.is_empty() && !after.starts_with(',') {
            return None;
        }
        rest = after.trim_start_matches([' ', '\t', ',']);
    }
    // A list may be empty: it matches no version.
    Some(EntityTags::List(tags))
}

/// The version of a tag. Only the form that responses use is accepted.
fn parse_version(tag: &str) -> Option<Version> {
    let version = Version::new(tag.parse().ok()?).ok()?;
    (version.to_string() == tag).then_some(version)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn request(header: &HeaderName, lines: &[&str]) -> HttpRequest {
        let request = TestRequest::default();
        let add = |request: TestRequest, line: &&str| request.append_header((header, *line));
        lines.iter().fold(request, add).to_http_request()
    }

    fn if_match(lines: &[&str]) -> Result<Option<Vec<i64>>, &'static str> {
        let read = IfMatch::read(&request(&IF_MATCH, lines), b"");
        let numbers = |IfMatch(read)| Some(read?.iter().map(|version| version.get()).collect());
        read.map(numbers).map_err(|problem| problem.code().name())
    }

    fn if_none_match(lines: &[&str]) -> bool {
        let five = Version::new(5).unwrap();
        IfNoneMatch::read(&request(&IF_NONE_MATCH, lines), b"").unwrap().matches(five)
    }

    #[test]
    fn if_match_lists_versions() {
        assert_eq!(if_match(&[]), Ok(None));
        assert_eq!(if_match(&[" * "]), Ok(None));
        assert_eq!(if_match(&["\"5\""]), Ok(Some(vec![5])));
        assert_eq!(if_match(&["\"5\" , ,\"6\"", "\"7\""]), Ok(Some(vec![5, 6, 7])));
        // Weak tags, and tags that no session has.
        for never in ["W/\"5\"", "\"\"", "\"05\"", "\"+5\"", "\"0\"", "\"a,b\"", "\"5 \""] {
            assert_eq!(if_match(&[never]), Ok(Some(vec![])), "{never}");
        }
        for nothing in ["", " , "] {
            assert_eq!(if_match(&[nothing]), Ok(Some(vec![])), "{nothing}");
        }
        for wrong in ["5", "\"5", "5\"", "\"5\"\"6\"", "\"5\" 6", "*, \"5\"", "w/\"5\""] {
            assert_eq!(if_match(&[wrong]), Err("invalid_header"), "{wrong}");
        }
    }

    #[test]
    fn if_none_match_matches_listed_versions() {
        for known in ["\"5\"", "W/\"5\"", "\"4\", \"5\"", "*"] {
            assert!(if_none_match(&[known]), "{known}");
        }
        for unknown in ["\"4\"", "\"abc\""] {
            assert!(!if_none_match(&[unknown]), "{unknown}");
        }
        assert!(!if_none_match(&[]));
    }
}
