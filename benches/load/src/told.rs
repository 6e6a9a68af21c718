//! An app with callbacks, and who receives them.

use crate::app::App;
use crate::server::Server;
use crate::{http, receiver};

/// Both of them.
pub struct Told {
    /// The app.
    pub app: App,
    /// The receiver.
    pub receiver: Server,
}

impl Told {
    /// How many callbacks were received so far.
    ///
    /// # Errors
    /// When the receiver does not say.
    pub fn count(&self) -> anyhow::Result<u64> {
        let body = http::call(self.receiver.port, &http::get("/count"))?;
        Ok(String::from_utf8(body)?.parse()?)
    }

    /// The first callbacks that were received.
    ///
    /// # Errors
    /// When the receiver does not say.
    pub fn kept(&self) -> anyhow::Result<Vec<receiver::Callback>> {
        Ok(serde_json::from_slice(&http::call(self.receiver.port, &http::get("/kept"))?)?)
    }
}
