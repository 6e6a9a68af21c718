//! A test callback: sent at once, outside of the queue, and not recorded.

use super::{AttemptOutcome, CallbackRequest, CallbackSender};
use crate::clock::Clock;
use crate::domain::CallbacksBlocked;
use crate::service::AppContext;
use crate::service::admin::apps::RegisteredApp;
use crate::wire::{CallbackEvent, Message};

/// The session id in a test callback.
const NO_SESSION: &str = "{00000000-0000-0000-0000-000000000000}";

/// The result of a test callback.
#[derive(Clone, Debug)]
pub struct TestCallback {
    /// The URL to which the callback was sent, without its user, password and query.
    pub url: String,
    /// The outcome of the attempt.
    pub outcome: AttemptOutcome,
    /// The reason why other callbacks are not sent to the app now.
    pub withheld: Option<CallbacksBlocked>,
}

/// The app has no callback URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the app has no callback URL")]
pub struct NoCallbackUrl;

/// Sends a test callback to an app, even if the app gets no other callbacks now.
///
/// # Errors
/// [`NoCallbackUrl`]. A failed attempt is not an error: [`TestCallback::outcome`] describes it.
pub async fn send_test_callback(
    sender: &CallbackSender,
    registered: RegisteredApp,
    clock: &Clock,
) -> Result<TestCallback, NoCallbackUrl> {
    let context = AppContext::from(registered);
    let url = context.app.callback.as_ref().ok_or(NoCallbackUrl)?.public_url();
    let now = clock.now();
    // Each test has a new id, because receivers ignore an id that they have seen.
    let id = format!("test-{:016x}", rand::random::<u64>());
    let message = Message {
        from_user: "muster",
        create_time: now.timestamp(),
        package_id: &id,
        session_id: NO_SESSION,
        version: 0,
        event: CallbackEvent::Test,
    };
    let callback =
        CallbackRequest { context: &context, message: &message, attempt: 1, trace: None, now };
    let outcome = sender.send(&callback).await;
    Ok(TestCallback { url, outcome, withheld: context.app.callbacks_blocked() })
}
