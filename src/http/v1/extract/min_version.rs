//! `Muster-Min-Version`: the version that the reader of a session has seen. No response may be older.

use actix_web::HttpRequest;
use actix_web::http::header::HeaderName;
use utoipa::openapi::path::Parameter;

use super::header;
use super::parameter::{in_header, text};
use super::part::RequestPart;
use crate::domain::{Version, quoted};
use crate::http::v1::problem::{Code, ErrorCodes, Problem};

const HEADER: HeaderName = HeaderName::from_static("muster-min-version");
/// The name in problems and in the description.
const NAME: &str = "Muster-Min-Version";

/// The most digits of a version in the header. Every such number is a version.
const DIGITS: usize = 18;

/// The least version that the reader accepts, if the request names one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MinVersion(pub(crate) Option<Version>);

impl MinVersion {
    /// Refuses the header in a request that names a past version: the past does not change.
    pub(crate) fn refuse_beside(&self, parameter: &str) -> Result<(), Problem> {
        match self.0 {
            None => Ok(()),
            Some(_) => Err(Problem::for_field(
                Code::InvalidHeader,
                NAME,
                format_args!("must not be combined with {parameter}"),
            )),
        }
    }
}

impl ErrorCodes for MinVersion {
    fn codes() -> Vec<Code> {
        vec![Code::InvalidHeader, Code::VersionNotReached]
    }
}

impl RequestPart for MinVersion {
    fn read(request: &HttpRequest, _: &[u8]) -> Result<Self, Problem> {
        let Some(text) = header::single(request, HEADER, NAME)? else { return Ok(Self(None)) };
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'))
            && text.len() <= DIGITS;
        let number = text.parse().ok().filter(|_| is_number);
        let Some(number) = number else {
            let reason = format!("must be a version such as 3, got {}", quoted(&text));
            return Err(header::invalid(NAME, reason));
        };
        let version = Version::new(number)
            .map_err(|error| Problem::invalid(Code::InvalidHeader, NAME, &error))?;
        Ok(Self(Some(version)))
    }

    fn parameters() -> Vec<Parameter> {
        let description = "The version of the session that the caller has seen, in a response or a \
                           callback of any server. The response has this version or a later one. \
                           If the session has only an earlier one, because the database was \
                           restored from a backup, the problem is `version_not_reached`.";
        // Text, because generated clients send only text in headers.
        let version = text("^[1-9][0-9]{0,17}$", "3");
        vec![in_header(NAME, description, version)]
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn read(values: &[&str]) -> Result<Option<i64>, String> {
        let add = |request: TestRequest, value: &&str| request.append_header((HEADER, *value));
        let request = values.iter().fold(TestRequest::default(), add).to_http_request();
        let read = MinVersion::read(&request, b"");
        read.map(|MinVersion(min)| min.map(Version::get)).map_err(|problem| problem.to_string())
    }

    #[test]
    fn header_is_one_version() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["1"]), Ok(Some(1)));
        assert_eq!(read(&["999999999999999999"]), Ok(Some(999_999_999_999_999_999)));
        for (values, reason) in [
            (&["0"][..], "at least 1, got 0"),
            (&[""], "must be a version such as 3, got \"\""),
            (&["-1"], "must be a version such as 3, got \"-1\""),
            (&["+1"], "must be a version such as 3, got \"+1\""),
            (&["01"], "must be a version such as 3, got \"01\""),
            (&["1.0"], "must be a version such as 3, got \"1.0\""),
            (&["\"3\""], "must be a version such as 3, got \"\\\"3\\\"\""),
            (&["1, 2"], "must be a version such as 3, got \"1, 2\""),
            (&["9223372036854775808"], "must be a version such as 3, got \"9223372036854775808\""),
            (&["1", "1"], "appears more than once"),
        ] {
            let expected = format!("invalid_header Muster-Min-Version: {reason}");
            assert_eq!(read(values), Err(expected), "{values:?}");
        }
    }

    #[test]
    fn header_is_refused_beside_a_past_version() {
        assert!(MinVersion(None).refuse_beside("version").is_ok());
        let problem = MinVersion(Some(Version::FIRST)).refuse_beside("version").unwrap_err();
        assert_eq!(
            problem.to_string(),
            "invalid_header Muster-Min-Version: must not be combined with version"
        );
    }
}
