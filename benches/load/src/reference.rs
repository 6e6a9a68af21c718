//! The common part of the HTTP references: an app, and a server like Muster's own.

use std::net::Ipv4Addr;

use actix_web::web::ServiceConfig;
use actix_web::{App, HttpServer};
use clap::Args;
use muster::wire::{AesKey, Envelope};

/// The app and the port.
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
    /// The envelope of the app.
    ///
    /// # Errors
    /// If the key is invalid.
    pub fn envelope(&self) -> anyhow::Result<Envelope> {
        Ok(Envelope::new(&AesKey::from_base64(&self.key)?, &self.app_id))
    }

    /// Serves until the process ends, with one thread for each core. Each thread calls `configure`.
    ///
    /// # Errors
    /// If the port is in use.
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
