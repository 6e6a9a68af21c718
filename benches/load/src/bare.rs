//! The reference for reads from memory: an actix handler that seals the same message each time. It
//! checks no token, reads no session and serialises nothing.

use actix_web::{HttpResponse, web};
use clap::Args;
use muster::wire::Envelope;

use crate::reference;

/// The options of the handler.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    reference: reference::Options,
    /// The message that is sealed
    #[arg(long)]
    message: String,
}

struct Sealed {
    envelope: Envelope,
    message: Vec<u8>,
}

/// Serves until the process ends.
///
/// # Errors
/// If the port is in use.
pub fn serve(Options { reference, message }: &Options) -> anyhow::Result<()> {
    let message = message.clone().into();
    let sealed = web::Data::new(Sealed { envelope: reference.envelope()?, message });
    reference.serve(move |app| {
        app.app_data(sealed.clone()).route("/cgi/session/get", web::get().to(get));
    })
}

async fn get(sealed: web::Data<Sealed>) -> HttpResponse {
    let mut body = String::with_capacity(64 + 2 * sealed.message.len());
    body.push_str("{\"errcode\":0,\"errmsg\":\"ok\",\"encrypt\":\"");
    let message = &sealed.message;
    sealed.envelope.seal_outgoing_into(&mut body, message);
    body.push_str("\"}");
    HttpResponse::Ok().content_type("application/json").body(body)
}
