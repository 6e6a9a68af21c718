//! Queries, read strictly: an unknown parameter, a repeated parameter or invalid percent-encoded
//! UTF-8 is an error.

use std::collections::HashSet;

use actix_web::HttpRequest;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::field;
use super::field::{FieldCodes, truncate};
use super::part::RequestPart;
use super::percent;
use crate::domain::{parse_time, quoted};
use crate::http::v1::problem::{Code, ErrorCodes, Problem};

const CODES: FieldCodes = FieldCodes {
    invalid: Code::InvalidParameter,
    missing: Code::MissingParameter,
    unknown: Code::UnknownParameter,
    duplicate: Code::DuplicateParameter,
};

/// The parameters of a query, as a type that denies unknown fields.
pub(crate) struct Query<T>(pub(crate) T);

/// No parameters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoParams {}

impl<T> ErrorCodes for Query<T> {
    fn codes() -> Vec<Code> {
        let mut codes = CODES.all();
        codes.push(Code::MalformedQuery);
        codes
    }
}

impl<T: DeserializeOwned + IntoParams> RequestPart for Query<T> {
    fn read(request: &HttpRequest, _: &[u8]) -> Result<Self, Problem> {
        read(request.query_string()).map(Self)
    }

    fn parameters() -> Vec<Parameter> {
        T::into_params(|| Some(ParameterIn::Query))
    }
}

fn read<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let malformed = |reason| Problem::for_field(Code::MalformedQuery, "query", reason);
    let with_spaces = query.replace('+', " ");
    let mut seen = HashSet::new();
    for pair in with_spaces.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        percent::decode(value).map_err(malformed)?;
        let name = percent::decode(name).map_err(malformed)?;
        if !seen.insert(name.clone()) {
            return Err(Problem::for_field(
                CODES.duplicate,
                truncate(&name),
                "appears more than once",
            ));
        }
    }
    let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(query.as_bytes()));
    serde_path_to_error::deserialize(pairs).map_err(|error| {
        let name = error.path().to_string();
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        let value = pairs.find(|(found, _)| *found == name).map(|(_, value)| value);
        field::problem(&CODES, error.path(), &error.inner().to_string(), value.as_deref())
    })
}

/// The time in the parameter `name`.
pub(crate) fn time(name: &str, text: &str) -> Result<DateTime<Utc>, Problem> {
    parse_time(text).map_err(|_| {
        let reason = format!(
            "must be a time such as 2024-06-10T06:13:20Z, with + written as %2B, got {}",
            quoted(text)
        );
        Problem::for_field(Code::InvalidParameter, name, reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Example {
        text: String,
        page_limit: Option<u16>,
        #[serde(default)]
        flag: bool,
    }

    fn problem(query: &str) -> (&'static str, String) {
        let problem = read::<Example>(query).unwrap_err();
        let text = problem.to_string();
        (problem.code().name(), text.split_once(' ').unwrap().1.to_owned())
    }

    #[test]
    fn parameters_are_typed() {
        let read = |query| read::<Example>(query).unwrap();
        let example =
            |text: &str, page_limit| Example { text: text.to_owned(), page_limit, flag: false };
        assert_eq!(read("text=a+b%2B&pageLimit=7"), example("a b+", Some(7)));
        assert_eq!(read("&text=%E9%A1%B9&"), example("项", None));
        assert_eq!(read("text"), example("", None));
    }

    #[test]
    fn errors_name_the_parameter() {
        for (query, code, detail) in [
            ("pageLimit=7", "missing_parameter", "text: is missing"),
            ("text=a&text=a", "duplicate_parameter", "text: appears more than once"),
            ("text=a&te%78t=a", "duplicate_parameter", "text: appears more than once"),
            (
                "text=a&verbose=1",
                "unknown_parameter",
                "verbose: is unknown, expected one of `text`, `pageLimit`, `flag`",
            ),
            (
                "text=a&pageLimit=x",
                "invalid_parameter",
                "pageLimit: must be a whole number, got \"x\"",
            ),
            (
                "text=a&pageLimit=",
                "invalid_parameter",
                "pageLimit: must be a whole number, got \"\"",
            ),
            (
                "text=a&pageLimit=1.5",
                "invalid_parameter",
                "pageLimit: must be a whole number, got \"1.5\"",
            ),
            (
                "text=a&pageLimit=65536",
                "invalid_parameter",
                "pageLimit: must be a whole number closer to zero, got \"65536\"",
            ),
            ("text=a&flag=yes", "invalid_parameter", "flag: must be true or false, got \"yes\""),
            ("text=%", "malformed_query", "query: `%` must be followed by two hexadecimal digits"),
            ("text=%ff", "malformed_query", "query: must be UTF-8"),
            ("%ff=a&text=", "malformed_query", "query: must be UTF-8"),
        ] {
            assert_eq!(problem(query), (code, detail.to_owned()), "{query}");
        }
        let unknown = read::<NoParams>("a=1").unwrap_err();
        assert_eq!(unknown.to_string(), "unknown_parameter a: is unknown, none is expected");
        assert!(read::<NoParams>("").is_ok());
    }
}
