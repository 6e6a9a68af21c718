//! `POST /v1/sessions/compare`: the differences between a copy of the sessions and the sessions.
//!
//! The copy is read and the differences are sent part by part, so that a copy of a million sessions takes
//! no more memory than a small one.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::IntoParams;

use crate::domain::{Difference, DifferingSession, SessionId, SessionVersion, Version};
use crate::http::shared::permission::CanRead;
use crate::http::v1::extract::ndjson;
use crate::http::v1::extract::ndjson::NdjsonBody;
use crate::http::v1::extract::number::VersionNumber;
use crate::http::v1::extract::query::Query;
use crate::http::v1::extract::streamed;
use crate::http::v1::extract::streamed::Streamed;
use crate::http::v1::problem::{Code, ErrorResponses, Problem};
use crate::http::v1::render::line_stream;
use crate::http::v1::render::line_stream::LineWriter;
use crate::service::{Comparison, Sessions};

type CompareRequest = Streamed<CanRead, Query<CompareQuery>>;

/// The query: whether sessions are searched that the copy does not have.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CompareQuery {
    /// Whether the response also has the sessions of the enterprise that the request does not name.
    /// The lines must then be in ascending order of `sessionId`, each id once.
    #[serde(default)]
    #[param(default = false, example = false)]
    missing: bool,
}

/// A line of the request: a session of the copy.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct CopiedSession {
    session_id: String,
    version: VersionNumber,
}

impl TryFrom<CopiedSession> for SessionVersion {
    type Error = Problem;

    fn try_from(copied: CopiedSession) -> Result<Self, Problem> {
        let id = copied.session_id.parse::<SessionId>();
        let id = id.map_err(|error| Problem::invalid(Code::InvalidField, "sessionId", &error))?;
        Ok(Self { id, version: copied.version.read()? })
    }
}

/// A line of the response: a session that differs from the copy.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DifferenceLine {
    session_id: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<i64>,
}

impl From<&DifferingSession> for DifferenceLine {
    fn from(differing: &DifferingSession) -> Self {
        let (state, version) = match differing.difference {
            Difference::Changed(version) => ("changed", Some(version)),
            Difference::Behind(version) => ("behind", Some(version)),
            Difference::Missing(version) => ("missing", Some(version)),
            Difference::Unknown => ("unknown", None),
        };
        Self { session_id: differing.id.to_string(), state, version: version.map(Version::get) }
    }
}

/// The last line of a complete response.
#[derive(Default, Serialize)]
struct SummaryLine {
    /// The number of lines of the request with a session.
    compared: u64,
    /// The number of lines of the response before this one.
    differing: u64,
}

/// A copy of the sessions, as a request has it.
struct CopyReader {
    body: NdjsonBody,
    /// Whether the ids must be in ascending order.
    is_ordered: bool,
    last: Option<SessionId>,
}

impl CopyReader {
    /// The next part; empty at the end.
    async fn next_part(&mut self) -> Result<Vec<SessionVersion>, Problem> {
        let Self { body, is_ordered, last } = self;
        body.read(Comparison::MAX_STEP, |line: CopiedSession| {
            let copied = SessionVersion::try_from(line)?;
            if let Some(last) = last.replace(copied.id).filter(|last| *last >= copied.id)
                && *is_ordered
            {
                let reason = format!(
                    "must be greater than {last} of the line before, because missing is true"
                );
                return Err(Problem::for_field(Code::InvalidField, "sessionId", reason));
            }
            Ok(copied)
        })
        .await
    }
}

/// Compares a copy, and writes the differences.
async fn write_differences(
    mut copy: CopyReader,
    mut comparison: Comparison,
    lines: &mut LineWriter,
) -> Result<(), Problem> {
    let mut summary = SummaryLine::default();
    let mut is_first = true;
    loop {
        let part = copy.next_part().await?;
        if part.is_empty() {
            break;
        }
        let mut rest = part.as_slice();
        while !rest.is_empty() {
            // The caller of the first step has just been authenticated.
            if is_first {
                is_first = false;
            } else {
                streamed::authenticate_part::<CanRead>(&copy.body).await?;
            }
            let (differing, after) = comparison.step(rest).await?;
            summary.compared += (rest.len() - after.len()) as u64;
            write(&differing, &mut summary, lines).await?;
            rest = after;
        }
    }
    while let Some(differing) = comparison.rest().await? {
        write(&differing, &mut summary, lines).await?;
        streamed::authenticate_part::<CanRead>(&copy.body).await?;
    }
    lines.write(&summary).await
}

async fn write(
    differing: &[DifferingSession],
    summary: &mut SummaryLine,
    lines: &mut LineWriter,
) -> Result<(), Problem> {
    summary.differing += differing.len() as u64;
    for session in differing {
        lines.write(&DifferenceLine::from(session)).await?;
    }
    Ok(())
}

/// An example of a request.
fn request_sample() -> String {
    let line = |id: &str, version: i64| json!({ "sessionId": id, "version": version });
    let lines = [
        line("{01900C5E-7A00-7000-8000-000000000001}", 1),
        line("{8AD595F3-73B3-4B56-90AF-F336F9222FC5}", 3),
    ];
    lines.map(|line| format!("{line}\n")).concat()
}

/// An example of a response.
fn response_sample() -> String {
    [
        json!({ "sessionId": "{01900C5E-7A00-7000-8000-000000000001}", "state": "unknown" }),
        json!({
            "sessionId": "{8AD595F3-73B3-4B56-90AF-F336F9222FC5}", "state": "changed", "version": 4
        }),
        json!({ "compared": 2, "differing": 2 }),
    ]
    .map(|line| format!("{line}\n"))
    .concat()
}

/// Compare a copy of sessions
///
/// Finds the sessions whose copy is not up to date, without reading them. Request and response have a
/// JSON object in each line. A line of the request has the `sessionId` and the `version` of a copy. The
/// response has a line for each session that differs, with its `sessionId`, its `state` and its current
/// `version`:
///
/// - `changed`: the session has a later version. Read it.
/// - `behind`: the session has only an earlier version, because the database was restored from a backup.
///   Read it, also if the copy seems newer.
/// - `unknown`: the enterprise has no such session. The line has no `version`.
/// - `missing`: the request does not name the session. Only with `missing=true`.
///
/// The last line of a complete response has the numbers of `compared` and of `differing` sessions. If the
/// request fails after the response has begun, the last line is a problem instead. If neither is there,
/// the response is incomplete: send the request again.
///
/// A session is compared as it is when its line is read. Read the response while you send the request,
/// unless you expect less than 1 MiB of differences.
#[utoipa::path(
    post,
    path = "/v1/sessions/compare",
    operation_id = "compareSessions",
    tag = "sessions",
    params(CompareRequest),
    request_body(
        content = String,
        content_type = "application/x-ndjson",
        description = "At most 10,000,000 lines of at most 1,024 bytes",
        example = json!(request_sample())
    ),
    responses(
        (
            status = 200, description = "The differences", body = String,
            content_type = "application/x-ndjson", example = json!(response_sample())
        ),
        ErrorResponses<CompareRequest>
    )
)]
pub(crate) async fn compare(
    sessions: web::Data<Sessions>,
    request: CompareRequest,
) -> Result<HttpResponse, Problem> {
    let Streamed { caller, parts: Query(query), body, .. } = request;
    let comparison = sessions.begin_comparison(caller, query.missing)?;
    let http_request = body.request().clone();
    let copy = CopyReader { body, is_ordered: query.missing, last: None };
    line_stream::respond(&http_request, ndjson::MEDIA_TYPE, async move |lines: &mut LineWriter| {
        write_differences(copy, comparison, lines).await
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_have_their_states() {
        let id: SessionId = "8ad595f3-73b3-4b56-90af-f336f9222fc5".parse().unwrap();
        let version = Version::new(4).unwrap();
        for (difference, line) in [
            (Difference::Changed(version), json!({ "state": "changed", "version": 4 })),
            (Difference::Behind(version), json!({ "state": "behind", "version": 4 })),
            (Difference::Missing(version), json!({ "state": "missing", "version": 4 })),
            (Difference::Unknown, json!({ "state": "unknown" })),
        ] {
            let mut found = json!(DifferenceLine::from(&DifferingSession { id, difference }));
            let found_id = found.as_object_mut().unwrap().remove("sessionId").unwrap();
            assert_eq!((found_id, found), (json!(id.to_string()), line));
        }
    }

    #[test]
    fn description_states_the_limits() {
        assert_eq!((ndjson::MAX_LINES, ndjson::MAX_LINE_BYTES), (10_000_000, 1_024));
    }
}
