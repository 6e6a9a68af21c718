//! `muster app test-callback`.

use anyhow::Context as _;
use serde_json::json;

use super::args::Output;
use super::{callbacks, output};
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::CallbacksBlocked;
use crate::service::AppContext;
use crate::service::admin::apps::RegisteredApp;
use crate::wire::{CallbackEvent, Message};

/// Sends a test callback to an app, and prints the result.
pub(super) async fn run(
    settings: &Settings,
    registered: RegisteredApp,
    clock: &Clock,
    output: Output,
) -> anyhow::Result<()> {
    let context = AppContext::from(registered);
    let callback = context.app.callback.as_ref();
    let url = &callback
        .context(
            "the app has no callback URL: set it with `muster app update --callback-url … --callback-token …`",
        )?
        .url;
    let now = clock.now();
    // Each test has a new id, because receivers ignore an id that they have seen.
    let id = format!("test-{:016x}", rand::random::<u64>());
    let message = Message {
        from_user: "muster",
        create_time: now.timestamp(),
        package_id: &id,
        session_id: "{00000000-0000-0000-0000-000000000000}",
        version: 0,
        event: CallbackEvent::Test,
    };
    let outcome = callbacks::sender(settings)?.send(&context, &message, 1, None, now).await;
    let acknowledged = outcome.error.is_none();
    let blocked = context.app.callbacks_blocked().map(explain_withheld);
    let duration_ms = outcome.duration.as_millis();
    if output.json {
        output::json(&json!({
            "url": url,
            "acknowledged": acknowledged,
            "withheld": blocked,
            "durationMs": u64::try_from(duration_ms).unwrap_or(u64::MAX),
            "status": outcome.status,
            "error": outcome.error,
            "answer": outcome.response_excerpt,
        }))?;
    } else {
        output::text(&format!("sent to   {url}"));
        output::text(&format!("took      {duration_ms} ms"));
        if let Some(status) = outcome.status {
            output::text(&format!("status    {status}"));
        }
        if let Some(answer) = &outcome.response_excerpt {
            output::text(&format!("response  {answer:?}"));
        }
        if acknowledged {
            output::text("the receiver acknowledged it");
        }
        if let Some(why) = blocked {
            output::text(&format!("but real callbacks are not sent: {why}"));
        }
    }
    match outcome.error {
        Some(error) => anyhow::bail!("the receiver did not acknowledge the test callback: {error}"),
        None => Ok(()),
    }
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
