//! The calls of the vendor's server that Muster does not have. Clients for the whole protocol make
//! them if they are pointed at Muster.
//!
//! The response is 501: many clients show only the reason phrase, and some report success or panic
//! after a 200.

/// Groups of calls, by the beginning of their paths.
const GROUPS: [&str; 10] = [
    "/cgi/avatar/",
    "/cgi/dept/",
    "/cgi/event/",
    "/cgi/face/",
    "/cgi/group/",
    "/cgi/media/",
    "/cgi/msg/",
    "/cgi/org/",
    "/cgi/session/msg/",
    "/cgi/user/",
];

/// Single calls.
const CALLS: [&str; 5] = [
    "/cgi/getjobresult",
    "/cgi/identify",
    "/cgi/popwindow",
    "/cgi/session/send",
    "/cgi/set.ent.notice",
];

/// Whether the vendor's server has a call with this path, and Muster has none.
pub(super) fn is_vendor_call(path: &str) -> bool {
    CALLS.contains(&path)
        || GROUPS.iter().any(|group| path.len() > group.len() && path.starts_with(group))
}
