//! An app with callbacks, and the receiver of its callbacks.

use crate::app::App;
use crate::server::Server;
use crate::{http, receiver};

/// The app and the receiver.
pub struct Subscriber {
    /// The app.
    pub app: App,
    /// The receiver.
    pub receiver: Server,
}

impl Subscriber {
    /// The number of received callbacks.
    ///
    /// # Errors
    /// If the receiver does not answer.
    pub fn count(&self) -> anyhow::Result<u64> {
        let body = http::call(self.receiver.port, &http::get("/count"))?;
        Ok(String::from_utf8(body)?.parse()?)
    }

    /// The first received callbacks.
    ///
    /// # Errors
    /// If the receiver does not answer.
    pub fn recorded(&self) -> anyhow::Result<Vec<receiver::Callback>> {
        Ok(serde_json::from_slice(&http::call(self.receiver.port, &http::get("/recorded"))?)?)
    }
}
