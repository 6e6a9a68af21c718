//! `muster app test-callback`.

use anyhow::Context as _;
use serde_json::json;

use super::args::Output;
use super::output;
use crate::clock::Clock;
use crate::config::Settings;
use crate::delivery::{self, CallbackSender, TestCallback};
use crate::domain::CallbacksBlocked;
use crate::service::admin::apps::RegisteredApp;

/// Sends a test callback to an app, and prints the result. Fails unless the receiver acknowledges
/// the callback.
pub(super) async fn run(
    settings: &Settings,
    registered: RegisteredApp,
    clock: &Clock,
    output: Output,
) -> anyhow::Result<()> {
    let sender = CallbackSender::from_settings(settings).context("cannot send callbacks")?;
    let sent = delivery::send_test_callback(&sender, registered, clock).await;
    let result = sent.map_err(|error| {
        anyhow::anyhow!(
            "{error}: set it with `muster app update --callback-url … --callback-token …`"
        )
    })?;
    print(&result, output)?;
    match result.outcome.error {
        Some(error) => anyhow::bail!("the receiver did not acknowledge the test callback: {error}"),
        None => Ok(()),
    }
}

fn print(result: &TestCallback, output: Output) -> anyhow::Result<()> {
    let TestCallback { url, outcome, withheld } = result;
    let acknowledged = outcome.error.is_none();
    let withheld = withheld.map(explain_withheld);
    let duration_ms = outcome.duration.as_millis();
    if output.json {
        return Ok(output::json(&json!({
            "url": url,
            "acknowledged": acknowledged,
            "withheld": withheld,
            "durationMs": u64::try_from(duration_ms).unwrap_or(u64::MAX),
            "status": outcome.status,
            "error": outcome.error,
            "response": outcome.response_excerpt,
        }))?);
    }
    output::text(&format!("sent to   {url}"))?;
    output::text(&format!("took      {duration_ms} ms"))?;
    if let Some(status) = outcome.status {
        output::text(&format!("status    {status}"))?;
    }
    if let Some(response) = &outcome.response_excerpt {
        output::text(&format!("response  {response:?}"))?;
    }
    if acknowledged {
        output::text("the receiver acknowledged it")?;
    }
    if let Some(reason) = withheld {
        output::text(&format!("but real callbacks are not sent: {reason}"))?;
    }
    Ok(())
}

/// The reason why an app gets no callbacks, with the remedy.
pub(super) fn explain_withheld(withheld: CallbacksBlocked) -> &'static str {
    match withheld {
        CallbacksBlocked::NoUrl => {
            "the app has no callback URL (`muster app update --callback-url`)"
        }
        CallbacksBlocked::Disabled => "the app is disabled (`muster app enable`)",
        CallbacksBlocked::NotPermitted => {
            "the app lacks the permission `callbacks` (`muster app update --permissions`)"
        }
        CallbacksBlocked::Paused => "callbacks are paused (`muster app resume-callbacks`)",
    }
}
