//! How many files, and so connections, this process may open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What else is open: the database's connections, callbacks under way, listeners, the log.
const BESIDES: u64 = 256;

/// Lets this process open as many files as the system permits it, and warns when connections would
/// still not have enough.
pub(super) fn permit(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let permitted = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let needed = connections as u64 + BESIDES;
    // None = without a limit.
    if let Some(permitted) = permitted.filter(|permitted| *permitted < needed) {
        tracing::warn!(
            permitted,
            needed,
            "the limit of open files is too low for server.max_connections: raise the limit (ulimit \
             -Hn, LimitNOFILE= of systemd) or lower the setting"
        );
    }
}
