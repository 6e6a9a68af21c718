//! Adds the parts of a response that a problem alone does not have: the request id, and a line in the log.

use actix_web::HttpResponse;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;

use super::body::Problem;
use crate::http::middleware::request_context::RequestContext;

/// Reports the first internal cause among `problems` to the log, a failure rather than a refusal. This
/// is for a response that is no error itself but contains problems, such as that of a batch.
pub(crate) fn report_causes<'a>(
    problems: impl Iterator<Item = &'a Problem>,
    response: &mut HttpResponse,
) {
    let reports = problems.map(Problem::report).filter(|report| report.cause.is_some());
    // The first of the least: `false` is less than `true`.
    if let Some(report) = reports.min_by_key(|report| report.is_refusal) {
        response.extensions_mut().insert(report);
    }
}

/// Adds the request id to a response that is a problem.
pub(crate) fn with_request_id(
    response: ServiceResponse<impl MessageBody + 'static>,
) -> ServiceResponse<BoxBody> {
    let problem = response.response().error().and_then(|error| error.as_error::<Problem>());
    let Some(problem) = problem else { return response.map_into_boxed_body() };
    let context = RequestContext::from_request(response.request());
    let answer = problem.answer(context.as_ref().map(|context| context.request_id_str()));
    response.into_response(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::middleware::request_context::{ApiStatus, ErrorReport};
    use crate::http::v1::problem::Code;

    #[test]
    fn first_internal_cause_is_logged() {
        let problems = ["one", "two"].map(|text| Problem::internal(&std::io::Error::other(text)));
        let mut response = HttpResponse::Ok().finish();
        report_causes([&Problem::new(Code::NotAMember, "no")].into_iter(), &mut response);
        assert!(response.extensions().get::<ErrorReport>().is_none());
        report_causes(problems.iter(), &mut response);
        let outcome = response.extensions().get::<ErrorReport>().cloned().unwrap();
        assert_eq!(outcome.cause.as_deref(), Some("one"));
        assert!(matches!(outcome.status, ApiStatus::Code("internal_error")));
    }

    #[test]
    fn failure_is_logged_rather_than_a_refusal() {
        let refused = ["one", "two"].map(|text| {
            Problem::new(Code::Unavailable, text).with_cause(&std::io::Error::other(text))
        });
        let mut response = HttpResponse::Ok().finish();
        report_causes(refused.iter(), &mut response);
        let report = response.extensions().get::<ErrorReport>().cloned().unwrap();
        assert!(report.is_refusal && report.cause.is_some());
        let failed = Problem::internal(&std::io::Error::other("disk full"));
        report_causes(refused.iter().chain([&failed]), &mut response);
        let report = response.extensions().get::<ErrorReport>().cloned().unwrap();
        assert!(!report.is_refusal);
        assert_eq!(report.cause.as_deref(), Some("disk full"));
    }
}
