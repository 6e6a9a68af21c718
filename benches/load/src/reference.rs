//! What the references in HTTP have in common: an app, and a server as Muster's own is.

use std::net::Ipv4Addr;

use actix_web::web::ServiceConfig;
use actix_web::{App, HttpServer};
use clap::Args;
use muster::wire::{AesKey, Envelope};

/// Whom it serves, and where.
#[derive(Args)]
pub struct Options {
    /// The port of 127.0.0.1
    #[arg(long)]
    port: u16,
    /// The app's AES key, in base64
    #[arg(long)]
    key: String,
    /// The app's id
    #[arg(long)]
    pub app_id: String,
}

impl Options {
    /// The app's envelope.
    ///
    /// # Errors
    /// When the key is none.
    pub fn envelope(&self) -> anyhow::Result<Envelope> {
        Ok(Envelope::new(&AesKey::from_base64(&self.key)?, &self.app_id))
    }

    /// Serves until it is ended, with a thread for each core. `configure` is called on each.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn serve(
        &self,
        configure: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
    ) -> anyhow::Result<()> {
        let server = HttpServer::new(move || App::new().configure(configure.clone()));
        let cores = std::thread::available_parallelism().map_or(1, Into::into);
        let server = server.workers(cores).bind((Ipv4Addr::LOCALHOST, self.port))?;
        actix_web::rt::System::new().block_on(server.run())?;
        Ok(())
    }
}
