//! The reference for reads from memory: an actix handler that seals the same message each time, and
//! does nothing else. No token is checked, nothing is looked up, nothing serialised.

use actix_web::{HttpResponse, web};
use clap::Args;
use muster::wire::Envelope;

use crate::reference;

/// What it serves.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    reference: reference::Options,
    /// What is sealed
    #[arg(long)]
    message: String,
}

struct Sealed {
    envelope: Envelope,
    message: Vec<u8>,
}

/// Serves until it is ended.
///
/// # Errors
/// When the port is taken.
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
    sealed.envelope.seal_into(&mut body, message);
    body.push_str("\"}");
    HttpResponse::Ok().content_type("application/json").body(body)
}
