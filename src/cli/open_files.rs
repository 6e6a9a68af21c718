//! The limit of open files of this process, which also limits its connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The files besides client connections: connections to the database, callbacks in flight,
/// listeners, the log.
const OTHER_FILES: u64 = 256;

/// Raises the limit to the maximum that the system permits, and warns if it is too low for the
/// configured number of connections.
pub(super) fn raise_limit(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let permitted = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let needed = connections as u64 + OTHER_FILES;
    // `None` means no limit.
    if let Some(permitted) = permitted.filter(|permitted| *permitted < needed) {
        tracing::warn!(
            permitted,
            needed,
            "the limit of open files is too low for server.max_connections: raise the limit (ulimit \
             -Hn, LimitNOFILE= of systemd) or lower the setting"
        );
    }
}
