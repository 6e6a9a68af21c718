//! The reference for reads from memory: an actix handler that seals the same message each time, and
//! does nothing else. No token is checked, nothing is looked up, nothing serialised.

use actix_web::{App, HttpResponse, HttpServer, web};
use clap::Args;
use muster::wire::{AesKey, Envelope};

/// What it serves.
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
    app_id: String,
    /// What is sealed
    #[arg(long)]
    message: String,
}

struct Sealed {
    envelope: Envelope,
    message: Vec<u8>,
}

/// Serves until it is ended, with a thread for each core, as Muster does.
///
/// # Errors
/// When the port is taken.
pub fn serve(options: &Options) -> anyhow::Result<()> {
    let envelope = Envelope::new(&AesKey::from_base64(&options.key)?, &options.app_id);
    let sealed = web::Data::new(Sealed { envelope, message: options.message.clone().into() });
    let server = HttpServer::new(move || {
        App::new().app_data(sealed.clone()).route("/cgi/session/get", web::get().to(get))
    });
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    let server = server.workers(cores).bind(("127.0.0.1", options.port))?;
    actix_web::rt::System::new().block_on(server.run())?;
    Ok(())
}

async fn get(sealed: web::Data<Sealed>) -> HttpResponse {
    let mut body = String::with_capacity(64 + 2 * sealed.message.len());
    body.push_str("{\"errcode\":0,\"errmsg\":\"ok\",\"encrypt\":\"");
    let message = &sealed.message;
    sealed.envelope.seal_into(&mut body, message);
    body.push_str("\"}");
    HttpResponse::Ok().content_type("application/json").body(body)
}
