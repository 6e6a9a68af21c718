//! The log: lines on standard error, in the configured format. Traces are separate: [`Traces`],
//! [`Span`], [`Trace`].
//!
//! Panics, and messages of other crates through `log`, are logged too.

mod cause_chain;
mod collector;
mod log_writer;
mod span;
mod trace;
mod traces;

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;

use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

pub use self::cause_chain::{cause_chain, causes};
use self::log_writer::LogWriter;
pub use self::log_writer::dropped_log_lines;
pub use self::span::{Span, trace_single_statement, trace_statement};
pub use self::trace::Trace;
pub use self::traces::{Traces, TracesError};
use crate::config::{LogConfig, LogFormat};

const PANIC_TARGET: &str = "muster::panic";

/// The reason why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This process already logs.
    #[error("logging is set up already")]
    AlreadyInitialized(#[source] TryInitError),
}

/// Starts logging for the whole process, until its end. Panics are logged too.
///
/// # Errors
/// A second call.
pub fn init(log: &LogConfig) -> Result<(), Error> {
    let terminal = log_writer::is_terminal();
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = format_layer(log, colours, LogWriter);
    tracing_subscriber::registry().with(lines).try_init().map_err(Error::AlreadyInitialized)?;

    let previous_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // A panic must be visible even with `log.level = "off"`.
        if tracing::enabled!(target: PANIC_TARGET, tracing::Level::ERROR) {
            log_panic(panic);
        } else {
            previous_hook(panic);
        }
    }));
    Ok(())
}

/// The layer that writes log lines.
fn format_layer<S, W>(log: &LogConfig, colours: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let filter = log.level.to_env_filter();
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colours);
    match log.format {
        LogFormat::Pretty => layer.compact().with_filter(filter).boxed(),
        LogFormat::Json => {
            let layer = layer.json().flatten_event(true).with_span_list(false);
            layer.with_filter(filter).boxed()
        }
    }
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace);
    tracing::error!(
        target: PANIC_TARGET,
        location,
        thread = thread.name().unwrap_or_default(),
        backtrace = backtrace.as_ref().map(tracing::field::display),
        "panicked: {}",
        message(panic.payload()),
    );
}

fn message(payload: &dyn Any) -> &str {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text,
        (None, None) => "with no message",
    }
}

#[cfg(test)]
mod tests;
