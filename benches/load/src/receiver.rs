//! A minimal receiver of callbacks: it counts and acknowledges.
//!
//! The first callbacks are recorded, so that the reference can send the same bytes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::{App, HttpRequest, HttpServer, web};
use clap::Args;
use serde::{Deserialize, Serialize};

/// The maximum number of recorded callbacks.
const MAX_KEPT: u64 = 256;

/// The options of the receiver.
#[derive(Args)]
pub struct Options {
    /// The port of 127.0.0.1
    #[arg(long)]
    port: u16,
}

/// A received callback.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Callback {
    /// Path and query.
    pub uri: String,
    /// Names and values of the headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

#[derive(Default)]
struct Received {
    count: AtomicU64,
    recorded: Mutex<Vec<Callback>>,
}

/// Receives on one thread until the process ends.
///
/// # Errors
/// If the port is in use.
pub fn serve(options: &Options) -> anyhow::Result<()> {
    let received = web::Data::new(Received::default());
    let server = HttpServer::new(move || {
        App::new()
            .app_data(received.clone())
            .route("/count", web::get().to(count))
            .route("/recorded", web::get().to(recorded))
            .default_service(web::post().to(receive))
    });
    let server = server.workers(1).bind(("127.0.0.1", options.port))?;
    actix_web::rt::System::new().block_on(server.run())?;
    Ok(())
}

async fn receive(
    received: web::Data<Received>,
    request: HttpRequest,
    body: web::Bytes,
) -> &'static str {
    if received.count.fetch_add(1, Ordering::Relaxed) < MAX_KEPT
        && let Ok(mut recorded) = received.recorded.lock()
    {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = request.headers().iter();
        recorded.push(Callback {
            uri: request.uri().to_string(),
            headers: headers
                .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
                .collect(),
            body: text(&body),
        });
    }
    "ok"
}

async fn count(received: web::Data<Received>) -> String {
    received.count.load(Ordering::Relaxed).to_string()
}

async fn recorded(received: web::Data<Received>) -> web::Json<Vec<Callback>> {
    web::Json(received.recorded.lock().map(|recorded| recorded.clone()).unwrap_or_default())
}
