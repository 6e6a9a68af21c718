//! Who gives the command, for the audit.
//!
//! That is what the operating system says and not what anybody claims; but who became root by sudo
//! is known from a variable only, which root can set as well.

use std::fs;

use crate::service::admin::Operator;

/// Longest name that is noted, in characters.
const LONGEST: usize = 128;

/// The user of this process, and where it runs.
pub(super) fn current() -> Operator {
    let uid = rustix::process::getuid().as_raw();
    let passwd = fs::read("/etc/passwd").unwrap_or_default();
    let user = name(&String::from_utf8_lossy(&passwd), uid);
    Operator {
        user: clean(&user.unwrap_or_else(|| format!("uid {uid}"))),
        sudo_user: std::env::var_os("SUDO_USER")
            .map(|name| clean(&name.to_string_lossy()))
            .filter(|name| !name.is_empty()),
        host: clean(&rustix::system::uname().nodename().to_string_lossy()),
        pid: std::process::id(),
    }
}

/// `name:password:uid:…`, one a line.
fn name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// Text that a list can show on one line.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_names_or_numbers() {
        let passwd = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/:\nbroken\n";
        assert_eq!(name(passwd, 1000).as_deref(), Some("ann"));
        assert_eq!(name(passwd, 1), None);
        assert_eq!(clean("a\n\u{1b}b"), "a\u{FFFD}\u{FFFD}b");
        assert_eq!(current().pid, std::process::id());
    }
}
