//! A receiver of callbacks, written from the protocol's description and not from Muster's code.
//!
//! The receiver speaks HTTP itself, so that it can break every rule. It checks each request,
//! decrypts it, and keeps it. [`Receiver::calls`] fails if a request was wrong.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::harness::client::Client;

/// A received request.
#[derive(Clone, Debug)]
pub struct Call {
    /// The request target: path and query.
    pub target: String,
    /// The headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The names of the headers as received.
    pub header_names: Vec<String>,
    /// The body as received.
    pub body: String,
    pub app_id: String,
    /// The decrypted message.
    pub message: String,
    /// `packageId` of the message.
    pub package_id: String,
    pub session: String,
    pub version: i64,
    pub attempt: i32,
    /// The number of the connection, from 0.
    pub connection: usize,
    /// Whether the receiver answered with `ok`.
    pub acknowledged: bool,
}

impl Call {
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    /// The query parameters in their order, percent-decoded.
    pub fn query(&self) -> Vec<(String, String)> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        form_urlencoded::parse(query.as_bytes()).into_owned().collect()
    }

    pub fn parameter(&self, name: &str) -> String {
        self.query().into_iter().find(|(key, _)| key == name).unwrap().1
    }
}

/// The reaction of the receiver to a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Acknowledges the request.
    Ok,
    /// Answers with this status, these header lines (each with its line end) and this body.
    Answer(u16, String, String),
    /// Sends these bytes and closes.
    Raw(Vec<u8>),
    /// Answers after this delay.
    Late(Duration, Box<Reply>),
    /// Answers after this many requests have reached the barrier.
    Barrier(usize, Box<Reply>),
    /// Sends a body without end.
    Endless,
    /// Breaks the connection.
    Reset,
}

/// A response without additional headers.
pub fn reply_with(status: u16, body: &str) -> Reply {
    Reply::Answer(status, String::new(), body.to_owned())
}

type Script = Box<dyn FnMut(&Call) -> Reply + Send>;

pub struct Receiver {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    /// The client and the signing token of each app, by app id.
    apps: Mutex<HashMap<String, (Client, String)>>,
    calls: Mutex<Vec<Call>>,
    errors: Mutex<Vec<String>>,
    script: Mutex<Script>,
    connections: AtomicUsize,
    /// The number of requests that have reached the barrier.
    barrier: watch::Sender<usize>,
}

impl Receiver {
    /// Starts a receiver that acknowledges every request.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            apps: Mutex::default(),
            calls: Mutex::default(),
            errors: Mutex::default(),
            script: Mutex::new(Box::new(|_| Reply::Ok)),
            connections: AtomicUsize::default(),
            barrier: watch::Sender::default(),
        });
        let serving = shared.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let connection = serving.connections.fetch_add(1, Ordering::Relaxed);
                let serving = serving.clone();
                tokio::spawn(async move { serving.serve(stream, connection).await });
            }
        });
        Self { address, shared, task }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Adds an app whose requests the receiver can check and decrypt.
    pub fn add_app(&self, client: Client, token: &str) {
        let app_id = client.app_id.clone();
        self.shared.apps.lock().unwrap().insert(app_id, (client, token.to_owned()));
    }

    /// Sets the reply to each request from now on.
    pub fn script(&self, script: impl FnMut(&Call) -> Reply + Send + 'static) {
        *self.shared.script.lock().unwrap() = Box::new(script);
    }

    /// Acknowledges every request from now on.
    pub fn recover(&self) {
        self.script(|_| Reply::Ok);
    }

    /// All requests in the order of their arrival. Fails if one of them was wrong.
    pub fn calls(&self) -> Vec<Call> {
        let errors = self.shared.errors.lock().unwrap();
        assert!(errors.is_empty(), "{errors:#?}");
        self.shared.calls.lock().unwrap().clone()
    }

    /// All requests since the last call of this method.
    pub fn take(&self) -> Vec<Call> {
        let calls = self.calls();
        self.shared.calls.lock().unwrap().clear();
        calls
    }

    /// The versions of all requests since the last call of [`Self::take`].
    pub fn versions(&self) -> Vec<i64> {
        self.take().iter().map(|call| call.version).collect()
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    async fn serve(&self, mut stream: TcpStream, connection: usize) {
        let mut read = Vec::new();
        while let Some((head, body)) = request(&mut stream, &mut read).await {
            let checked = catch_unwind(AssertUnwindSafe(|| self.check(&head, body)));
            let mut call = match checked {
                Ok(call) => call,
                Err(panic) => {
                    let error = panic.downcast_ref::<String>().cloned();
                    let error = error.unwrap_or_else(|| format!("{head}: not as described"));
                    self.errors.lock().unwrap().push(error);
                    return;
                }
            };
            call.connection = connection;
            let mut reply = (self.script.lock().unwrap())(&call);
            call.acknowledged = match &reply {
                Reply::Barrier(_, then) => matches!(**then, Reply::Ok),
                reply => matches!(reply, Reply::Ok),
            };
            self.calls.lock().unwrap().push(call);
            while let Reply::Late(_, then) | Reply::Barrier(_, then) = &reply {
                let then = Reply::clone(then);
                match reply {
                    Reply::Late(wait, _) => tokio::time::sleep(wait).await,
                    Reply::Barrier(count, _) => self.wait_at_barrier(count).await,
                    _ => {}
                }
                reply = then;
            }
            if !send_reply(&mut stream, reply).await {
                return;
            }
        }
    }

    /// Waits until this many requests have reached the barrier.
    async fn wait_at_barrier(&self, count: usize) {
        let mut barrier = self.barrier.subscribe();
        self.barrier.send_modify(|count| *count += 1);
        barrier.wait_for(|reached| *reached >= count).await.unwrap();
    }

    /// Checks the properties of a request that every receiver may rely on.
    fn check(&self, head: &str, body: String) -> Call {
        let mut lines = head.split("\r\n");
        let target = lines.next().unwrap().strip_prefix("POST ").unwrap();
        let target = target.strip_suffix(" HTTP/1.1").unwrap().to_owned();
        let lines: Vec<_> = lines.filter_map(|line| line.split_once(": ")).collect();
        let header_names = lines.iter().map(|(name, _)| (*name).to_owned()).collect();
        let headers: BTreeMap<String, String> = lines
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), (*value).to_owned()))
            .collect();
        assert_eq!(headers["content-type"], "application/json");
        let fields: BTreeMap<String, Value> = serde_json::from_str(&body).unwrap();
        let names: Vec<&String> = fields.keys().collect();
        assert_eq!(names, ["encrypt", "toApp", "toBuin"], "{body}");
        let app_id = fields["toApp"].as_str().unwrap().to_owned();
        let encrypt = fields["encrypt"].as_str().unwrap();
        let (client, token) = self.apps.lock().unwrap()[&app_id].clone();
        assert_eq!(fields["toBuin"], client.buin);
        let message = client.open(encrypt);
        let content: Value = serde_json::from_str(&message).unwrap();
        let session = content["sessionId"].as_str().unwrap().to_owned();
        let version = content["version"].as_i64().unwrap();
        assert_eq!(headers["x-muster-version"], version.to_string());
        if content["msgType"] != "muster_test" {
            let plain = session.trim_matches(['{', '}']).to_lowercase();
            assert_eq!(headers["x-muster-delivery"], format!("{plain}.{version}.{app_id}"));
        }
        assert_eq!(content["packageId"], headers["x-muster-delivery"], "{message}");
        let attempt = headers["x-muster-attempt"].parse().unwrap();
        let call = Call {
            target,
            headers,
            header_names,
            body,
            app_id,
            message,
            package_id: content["packageId"].as_str().unwrap().to_owned(),
            session,
            version,
            attempt,
            connection: 0,
            acknowledged: false,
        };
        let encrypt = fields["encrypt"].as_str().unwrap();
        let (timestamp, nonce) = (call.parameter("timestamp"), call.parameter("nonce"));
        let mut parts = [&token, &timestamp, &nonce, encrypt].map(str::as_bytes);
        parts.sort_unstable();
        let signature = Sha1::digest(parts.concat()).iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        });
        assert_eq!(call.parameter("msg_signature"), signature, "{}", call.target);
        call
    }
}

/// The head of the next request, without the empty line, and its body.
async fn request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<(String, String)> {
    let end = loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(read[..end].to_vec()).unwrap();
    let length = head.split("\r\n").filter_map(|line| line.split_once(": "));
    let length = length
        .filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map(|(_, length)| length.parse::<usize>().unwrap())
        .next()
        .unwrap_or_default();
    while read.len() < end + 4 + length {
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8(read[end + 4..end + 4 + length].to_vec()).unwrap();
    read.drain(..end + 4 + length);
    Some((head, body))
}

/// Sends a reply. Returns whether the connection can be used again.
async fn send_reply(stream: &mut TcpStream, reply: Reply) -> bool {
    match reply {
        Reply::Ok => write(stream, 200, "", "ok").await,
        Reply::Answer(status, headers, body) => write(stream, status, &headers, &body).await,
        Reply::Raw(bytes) => {
            let _ = stream.write_all(&bytes).await;
            false
        }
        Reply::Endless => {
            let mut bytes = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
            while stream.write_all(&bytes).await.is_ok() {
                bytes = vec![b' '; 1_000];
            }
            false
        }
        Reply::Reset => {
            socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).unwrap();
            false
        }
        Reply::Late(..) | Reply::Barrier(..) => unreachable!("the delay is over"),
    }
}

async fn write(stream: &mut TcpStream, status: u16, headers: &str, body: &str) -> bool {
    let length =
        if status == 204 { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let text = format!("HTTP/1.1 {status} x\r\n{length}{headers}\r\n{body}");
    stream.write_all(text.as_bytes()).await.is_ok()
}
