//! An app: a caller of the APIs, and its permissions.

use std::fmt;
use std::str::FromStr;

use zeroize::Zeroize as _;

use super::{AllowedForms, AppId, Buin};

/// The place of a part that may be secret.
const HIDDEN: &str = "…";

/// An app of an enterprise, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// The enterprise.
    pub buin: Buin,
    /// The app's id, unique within the enterprise.
    pub app_id: AppId,
    /// A name for people; may be empty.
    pub name: String,
    /// The permissions of the app.
    pub permissions: Permissions,
    /// The forms of messages that the app may use. Callbacks are always sealed.
    pub forms: AllowedForms,
    /// The receiver of its callbacks, if the app has one.
    pub callback: Option<Callback>,
    /// Whether callbacks are stored instead of sent.
    pub callbacks_paused: bool,
    /// Whether the app is disabled: its tokens and keys are refused.
    pub disabled: bool,
}

/// The reason why no callbacks are sent to an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallbacksBlocked {
    /// The app has no callback URL.
    NoUrl,
    /// The app is disabled.
    Disabled,
    /// The app lacks the permission.
    NotPermitted,
    /// The callbacks are paused: Muster stores them until they are resumed.
    Paused,
}

impl App {
    /// The reason why the app gets no callbacks now; `None` if they are sent.
    #[must_use]
    pub fn callbacks_blocked(&self) -> Option<CallbacksBlocked> {
        if self.callback.is_none() {
            Some(CallbacksBlocked::NoUrl)
        } else if self.disabled {
            Some(CallbacksBlocked::Disabled)
        } else if !self.permissions.contains(Permission::Callbacks) {
            Some(CallbacksBlocked::NotPermitted)
        } else if self.callbacks_paused {
            Some(CallbacksBlocked::Paused)
        } else {
            None
        }
    }
}

/// The receiver of an app's callbacks. The token is wiped on drop, and never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Callback {
    /// An `http` or `https` URL.
    pub url: String,
    /// The secret that signs the callbacks.
    pub token: String,
}

impl Callback {
    /// Scheme, host and port of the URL. Its other parts may be secret.
    #[must_use]
    pub fn origin(&self) -> Option<String> {
        url_origin(&self.url)
    }

    /// The URL without its user, password and query, which may be secret.
    #[must_use]
    pub fn public_url(&self) -> String {
        let Some(origin) = self.origin() else { return HIDDEN.to_owned() };
        let after_scheme = self.url.split_once("://").map_or("", |(_, rest)| rest);
        let (address, query) = match after_scheme.find(['?', '#']) {
            Some(end) => after_scheme.split_at(end),
            None => (after_scheme, ""),
        };
        let path = address.find(['/', '\\']).map_or("", |begin| &address[begin..]);
        match (path.contains('@'), query.is_empty()) {
            // More than two slashes may begin a user and a password.
            (true, _) => format!("{origin}/{HIDDEN}"),
            (false, true) => format!("{origin}{path}"),
            (false, false) => format!("{origin}{path}?{HIDDEN}"),
        }
    }
}

/// Scheme, host and port of a URL, without a user and a password; `None` for any other text.
#[must_use]
pub fn url_origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '\\', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    Some(format!("{scheme}://{host}"))
}

impl Drop for Callback {
    fn drop(&mut self) {
        self.token.zeroize();
    }
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback").field("url", &self.public_url()).finish_non_exhaustive()
    }
}

/// A permission of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Read sessions.
    SessionsRead,
    /// Create and change sessions.
    SessionsWrite,
    /// Act in sessions without being a member.
    SessionsAdmin,
    /// Receive callbacks.
    Callbacks,
}

impl Permission {
    /// All permissions, in the order of the output.
    pub const ALL: [Self; 4] =
        [Self::SessionsRead, Self::SessionsWrite, Self::SessionsAdmin, Self::Callbacks];

    /// The name on the command line and in the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SessionsRead => "sessions:read",
            Self::SessionsWrite => "sessions:write",
            Self::SessionsAdmin => "sessions:admin",
            Self::Callbacks => "callbacks",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name is not a permission.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a permission; the permissions are sessions:read, sessions:write, sessions:admin and callbacks"
)]
pub struct UnknownPermission(pub String);

impl FromStr for Permission {
    type Err = UnknownPermission;

    fn from_str(name: &str) -> Result<Self, UnknownPermission> {
        Self::ALL
            .into_iter()
            .find(|permission| permission.name() == name)
            .ok_or_else(|| UnknownPermission(name.to_owned()))
    }
}

/// A set of permissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions(u8);

impl Permissions {
    /// The default permissions of a new app: read, write, receive callbacks.
    #[must_use]
    pub fn for_new_app() -> Self {
        [Permission::SessionsRead, Permission::SessionsWrite, Permission::Callbacks]
            .into_iter()
            .collect()
    }

    /// The permissions that both sets contain.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether the set contains `permission`.
    #[must_use]
    pub fn contains(self, permission: Permission) -> bool {
        self.0 & (1 << permission as u8) != 0
    }

    /// The permissions of the set.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.into_iter().filter(move |permission| self.contains(*permission))
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        Self(permissions.into_iter().fold(0, |set, permission| set | 1 << permission as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_parsed_by_name() {
        for permission in Permission::ALL {
            assert_eq!(permission.name().parse(), Ok(permission));
        }
        assert!("sessions:delete".parse::<Permission>().is_err());
    }

    #[test]
    fn only_the_origin_of_a_url_is_shown() {
        for (url, shown) in [
            ("https://u:p@ss@a.example:8443/hook/s3cret?key=s3cret#x", "https://a.example:8443"),
            ("http://[::1]:80?s3cret", "http://[::1]:80"),
            ("http://a.example\\s3cret@b", "http://a.example"),
        ] {
            let callback = Callback { url: url.to_owned(), token: "t".to_owned() };
            assert_eq!(callback.origin().as_deref(), Some(shown), "{url}");
        }
        assert_eq!(url_origin("s3cret"), None);
    }

    #[test]
    fn public_url_has_no_user_password_and_query() {
        for (url, shown) in [
            ("https://a.example:8443/hook", "https://a.example:8443/hook"),
            ("https://a.example", "https://a.example"),
            ("http://user:s3cret@a.example/ok?token=s3cret", "http://a.example/ok?…"),
            ("http://a.example?s3cret", "http://a.example?…"),
            ("http://a.example/#s3cret", "http://a.example/?…"),
            ("http:///user:s3cret@a.example/ok", "http:///…"),
            ("http:user:s3cret@a.example", "…"),
        ] {
            let callback = Callback { url: url.to_owned(), token: "t".to_owned() };
            assert_eq!(callback.public_url(), shown, "{url}");
        }
    }

    #[test]
    fn permission_set_contains_its_members() {
        let set = Permissions::for_new_app();
        assert!(set.contains(Permission::SessionsRead) && set.contains(Permission::Callbacks));
        assert!(!set.contains(Permission::SessionsAdmin));
        assert_eq!(set.iter().count(), 3);
        assert_eq!(set.iter().collect::<Permissions>(), set);
    }
}
