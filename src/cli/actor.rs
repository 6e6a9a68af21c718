//! The operator of a command, for the audit.
//!
//! The operating system gives the name of the user, so no argument can fake it. The surprise: the
//! user behind sudo is known only from the variable `SUDO_USER`, which root can set.

use std::fs;

use crate::domain::Actor;

/// The maximum length of a name in the audit, in characters.
const MAX_NAME_CHARS: usize = 128;

/// The user, the machine and the id of this process.
pub(super) fn current() -> Actor {
    let uid = rustix::process::getuid().as_raw();
    let passwd = fs::read("/etc/passwd").unwrap_or_default();
    let user = user_name(&String::from_utf8_lossy(&passwd), uid);
    Actor {
        user: clean(&user.unwrap_or_else(|| format!("uid {uid}"))),
        sudo_user: std::env::var_os("SUDO_USER")
            .map(|name| clean(&name.to_string_lossy()))
            .filter(|name| !name.is_empty()),
        host: clean(&rustix::system::uname().nodename().to_string_lossy()),
        pid: std::process::id(),
    }
}

/// Finds the name of a user in the lines `name:password:uid:…` of `/etc/passwd`.
fn user_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// Replaces control characters and cuts the text, so that a list shows it on one line.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).take(MAX_NAME_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_is_its_name_or_its_uid() {
        let passwd = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/:\nbroken\n";
        assert_eq!(user_name(passwd, 1000).as_deref(), Some("ann"));
        assert_eq!(user_name(passwd, 1), None);
        assert_eq!(clean("a\n\u{1b}b"), "a\u{FFFD}\u{FFFD}b");
        assert_eq!(current().pid, std::process::id());
    }
}
