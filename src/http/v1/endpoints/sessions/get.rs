//! `GET /v1/sessions/{sessionId}`: the session now, at a version, or at a time.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa::openapi::path::Parameter;

use crate::domain::Version;
use crate::http::shared::permission::CanRead;
use crate::http::v1::extract::authorized::Authorized;
use crate::http::v1::extract::conditions::ReadConditions;
use crate::http::v1::extract::min_version::MinVersion;
use crate::http::v1::extract::parameter::standard_header;
use crate::http::v1::extract::part::RequestPart;
use crate::http::v1::extract::path::SessionPath;
use crate::http::v1::extract::query;
use crate::http::v1::extract::query::Query;
use crate::http::v1::problem::{Code, ErrorCodes, ErrorResponses, Problem};
use crate::http::v1::render::response;
use crate::http::v1::render::response::SessionResponse;
use crate::service::{Freshness, Sessions};

type GetSessionRequest =
    Authorized<CanRead, (SessionPath, Query<AsOfQuery>, ReadConditions, (NoCache, MinVersion))>;

/// The query: a version or a time. Without both, the session as it is now.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AsOfQuery {
    /// The session as it was at this version.
    #[param(minimum = 1, example = 3)]
    version: Option<i64>,
    /// The session as it was at this time (RFC 3339). Must not be combined with `version`. The
    /// response is the same whenever it is asked for: a time at which a change may still be
    /// committed, such as one in the future, is refused.
    #[param(format = DateTime, example = "2024-06-10T06:13:20Z")]
    at: Option<String>,
}

/// The moment at which the session is read.
enum AsOf {
    Now,
    Version(Version),
    Time(DateTime<Utc>),
}

impl TryFrom<AsOfQuery> for AsOf {
    type Error = Problem;

    fn try_from(query: AsOfQuery) -> Result<Self, Problem> {
        match (query.version, query.at) {
            (None, None) => Ok(Self::Now),
            (Some(version), None) => match Version::new(version) {
                Ok(version) => Ok(Self::Version(version)),
                Err(error) => Err(Problem::invalid(Code::InvalidParameter, "version", &error)),
            },
            (None, Some(at)) => query::time("at", &at).map(Self::Time),
            (Some(_), Some(_)) => Err(Problem::for_field(
                Code::InvalidParameter,
                "at",
                "must not be combined with version",
            )),
        }
    }
}

/// Whether the cache must not be used.
pub(crate) struct NoCache(bool);

impl ErrorCodes for NoCache {
    fn codes() -> Vec<Code> {
        Vec::new()
    }
}

impl RequestPart for NoCache {
    fn read(request: &HttpRequest, _: &[u8]) -> Result<Self, Problem> {
        let lines = request.headers().get_all(CACHE_CONTROL);
        let mut directives =
            lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
        Ok(Self(directives.any(|directive| directive.trim().eq_ignore_ascii_case("no-cache"))))
    }

    fn parameters() -> Vec<Parameter> {
        let description = "`no-cache`: the response has every change that other servers have \
                     acknowledged. Without it, such changes appear a moment later. Other values \
                     have no effect.";
        vec![standard_header("Cache-Control", description, "no-cache")]
    }
}

/// The error codes of the endpoint, beside those of the request.
struct GetSessionErrors;

impl ErrorCodes for GetSessionErrors {
    fn codes() -> Vec<Code> {
        vec![Code::SessionNotFound, Code::VersionNotFound, Code::TimeNotSettled]
    }
}

/// Read a session
///
/// The session as it is, or as it was. Dissolved sessions can be read like all others.
#[utoipa::path(
    get,
    path = "/v1/sessions/{sessionId}",
    operation_id = "getSession",
    tag = "sessions",
    params(GetSessionRequest),
    responses(SessionResponse, ErrorResponses<(GetSessionRequest, GetSessionErrors)>)
)]
pub(crate) async fn get(
    sessions: web::Data<Sessions>,
    request: GetSessionRequest,
) -> Result<HttpResponse, Problem> {
    let (SessionPath(id), Query(as_of), _, (NoCache(no_cache), min)) = request.parts;
    let caller = request.caller;
    Ok(match as_of.try_into()? {
        AsOf::Now => {
            let freshness = Freshness { no_cache, min_version: min.0 };
            response::session(&**sessions.get_fresh(&caller, id, freshness).await?)
        }
        AsOf::Version(version) => {
            min.refuse_beside("version")?;
            let read =
                async move |sessions: Sessions| sessions.at_version(&caller, id, version).await;
            response::session(&sessions.read_in_background(read).await?)
        }
        AsOf::Time(at) => {
            min.refuse_beside("at")?;
            let read = async move |sessions: Sessions| sessions.at_time(&caller, id, at).await;
            let past = sessions.read_in_background(read).await;
            let past =
                past.map_err(|error| Problem::from(error).rename_field(&[("version", "at")]))?;
            response::session(&past)
        }
    })
}
