//! Runs the middlewares of a request in order. Each one has a file; only the order is here.
//!
//! Middlewares are functions, not layers of the framework: each layer would allocate a future for
//! every request. Reading a cached session takes only as long as a few of these allocations.

use std::rc::Rc;
use std::sync::Arc;

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::web;

use super::client_ip::ClientIpResolver;
use super::request_context::{RequestContext, RequestResult};
use super::request_guard::RequestGuard;
use super::request_metrics::RequestMetrics;
use super::request_span::RequestSpan;
use super::{access_log, header_limits, request_id};
use crate::http::options::Options;
use crate::http::transport::{GracefulShutdown, SendAtOnce};
use crate::metrics::Metrics;
use crate::telemetry::{Trace, Traces};

/// The middlewares of the application, on one thread.
pub(crate) struct Pipeline {
    options: Options,
    shutdown: Arc<GracefulShutdown>,
    client_ips: ClientIpResolver,
    traces: Traces,
    metrics: RequestMetrics,
}

impl Pipeline {
    pub(crate) fn new(
        options: Options,
        shutdown: Arc<GracefulShutdown>,
        client_ips: ClientIpResolver,
        traces: Traces,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { options, shutdown, client_ips, traces, metrics: RequestMetrics::new(metrics) }
    }

    /// Answers a request, and reports on it.
    pub(crate) async fn handle(
        self: Rc<Self>,
        mut request: ServiceRequest,
        next: Next<impl MessageBody + 'static>,
    ) -> Result<ServiceResponse<impl MessageBody>, Error> {
        let in_flight = self.shutdown.track();
        let guard = RequestGuard::new(&mut request);
        let id = request_id::choose(&request);
        let context = RequestContext::attach(&request, id, self.client_ips.resolve(&request));
        let span = RequestSpan::start(&self.traces, &request);

        let mut response = match header_limits::check(&self.options, &request) {
            Some(refused) => request.into_response(refused).map_into_right_body(),
            None => {
                let answering = Trace::scope(span.trace().cloned(), next.call(request));
                answering.await?.map_into_left_body()
            }
        };

        self.shutdown.announce(&mut response);
        let result = RequestResult::of(&mut response, &context);
        self.metrics.record(&response, &result);
        access_log::write(&response, &context, &result, span.trace());
        span.finish(&response, &context, &result);
        request_id::write(&mut response, &context);
        if result.is_error() {
            response.response_mut().extensions_mut().insert(SendAtOnce);
        }
        drop(in_flight);
        Ok(guard.attach_to(response))
    }
}

/// The middlewares of an application without log lines, metrics and traces of its requests.
pub(crate) async fn handle_unreported(
    options: web::Data<Options>,
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let guard = RequestGuard::new(&mut request);
    let response = match header_limits::check(&options, &request) {
        Some(refused) => request.into_response(refused).map_into_right_body(),
        None => next.call(request).await?.map_into_left_body(),
    };
    Ok(guard.attach_to(response))
}
