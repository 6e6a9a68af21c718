//! Sends spans to the collector.
//!
//! A thread of the SDK sends the spans, outside of any runtime. The HTTP requests run on the
//! runtime on which the collector was created. The surprise: the log has one line when the
//! collector goes down and one when it is back, regardless of the number of lost spans.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::cause_chain::cause_chain;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use reqwest::Client;
use reqwest::redirect::Policy;
use tokio::runtime::Handle;

/// The time limit of a request to the collector.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Sends spans to the collector.
pub(super) struct Collector {
    client: Client,
    runtime: Handle,
    is_down: AtomicBool,
}

/// The response of the collector refuses the spans.
#[derive(Debug, thiserror::Error)]
#[error("HTTP status {0}")]
struct CollectorStatusError(u16);

type Sending<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl Collector {
    pub(super) fn new() -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .user_agent(concat!("muster/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            // The proxies of the environment are meant for other programs.
            .no_proxy()
            .timeout(TIMEOUT)
            .build()?;
        Ok(Self { client, runtime: Handle::current(), is_down: AtomicBool::new(false) })
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let task = self.runtime.spawn(async move {
            let answer = client.execute(request.try_into()?).await?;
            let status = answer.status();
            if !status.is_success() {
                return Err(HttpError::from(CollectorStatusError(status.as_u16())));
            }
            let mut response = Response::new(answer.bytes().await?);
            *response.status_mut() = status;
            Ok(response)
        });
        let result = task.await?;
        self.log_state_change(result.as_ref().err());
        result
    }

    fn log_state_change(&self, error: Option<&HttpError>) {
        let was_down = self.is_down.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(error) if !was_down => {
                let error = cause_chain(&**error);
                tracing::warn!(%error, "the collector takes no traces; spans are lost");
            }
            None if was_down => tracing::info!("the collector takes traces again"),
            _ => {}
        }
    }
}

impl HttpClient for Collector {
    fn send_bytes<'a, 'b>(&'a self, request: Request<Bytes>) -> Sending<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.send(request))
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}
