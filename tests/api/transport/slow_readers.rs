//! Clients that do not read their responses.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::{SHORT_TIMEOUT, WAIT_TIMEOUT, read_until_closed};
use crate::harness::{TestApp, spawn_app_with};

/// A connection with a small receive buffer.
pub async fn connect_with_small_buffer(app: &TestApp) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(app.address).await.unwrap()
}

/// Creates a session with a large response and returns the request for it.
pub async fn create_large_session(app: &TestApp) -> String {
    let members: Vec<String> = (0..2000).map(|n| format!("{n:0>60}")).collect();
    let body = json!({ "title": "t", "creator": members[0], "member": members });
    let session = app.create(&body).await;
    let id = session["sessionId"].as_str().unwrap().trim_matches(['{', '}']).to_owned();
    let query = format!("accessToken={}&sessionId={id}", app.api_key);
    format!("GET /cgi/session/get?{query} HTTP/1.1\r\nHost: muster\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_does_not_read_times_out() {
    let app = spawn_app_with(|settings| settings.server.write_timeout = SHORT_TIMEOUT).await;
    let request = create_large_session(&app).await;
    let mut stream = connect_with_small_buffer(&app).await;
    // The responses exceed the buffers of the system. The client does not read, so the server must
    // stop writing.
    let flood = request.repeat(16);
    let sending = async { while stream.write_all(flood.as_bytes()).await.is_ok() {} };
    timeout(WAIT_TIMEOUT, sending).await.expect("the server never stops reading");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_reader_gets_the_whole_response() {
    // A pause of a busy machine must be shorter than this.
    const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
    let app = spawn_app_with(|settings| {
        settings.server.write_timeout = WRITE_TIMEOUT;
        settings.server.keep_alive_timeout = WRITE_TIMEOUT;
    })
    .await;
    let request = create_large_session(&app).await;
    let mut stream = connect_with_small_buffer(&app).await;
    const REQUESTS: usize = 40;
    stream.write_all(request.repeat(REQUESTS).as_bytes()).await.unwrap();
    // The client reads the first part in small pieces, for longer than the write timeout.
    let mut interval = tokio::time::interval(WRITE_TIMEOUT / 50);
    let mut chunk = vec![0; 65_536];
    let mut got = 0;
    for _ in 0..100 {
        interval.tick().await;
        got += stream.read(&mut chunk).await.unwrap();
    }
    got += read_until_closed(&mut stream).await.len();
    assert!(got > REQUESTS * 2000 * 60, "{got}");
}
