//! A proxy in front of the database that a test can stall or break.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;

use super::store::PgConnectOptions;

/// Forwards the bytes of PostgreSQL and its clients. While the proxy is stalled, both sides receive
/// nothing and no connection ends.
pub struct Proxy {
    endpoint: Endpoint,
    state: watch::Sender<State>,
    open: Arc<AtomicUsize>,
}

/// The address at which clients connect.
enum Endpoint {
    Directory(TempDir),
    Port(u16),
}

/// Connections are numbered in the order of their arrival.
#[derive(Clone, Copy, Default)]
struct State {
    next: usize,
    stalled: bool,
    /// Connections with a lower number are never forwarded again.
    first_forwarded: usize,
    /// Connections with a lower number are broken.
    first_unbroken: usize,
    /// The connection whose responses are delayed.
    delayed: Option<usize>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Makes the close of the stream a reset.
    fn reset_on_close(&self) {}
}

impl Stream for UnixStream {}

impl Stream for TcpStream {
    fn reset_on_close(&self) {
        let _ = socket2::SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl Proxy {
    /// A proxy to the server of `options`, on a Unix socket.
    pub fn on_unix_socket(options: &PgConnectOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(socket(directory.path(), options)).unwrap();
        Self::listen(Endpoint::Directory(directory), options, Listener::Unix(listener))
    }

    /// A proxy to the server of `options`, on TCP.
    pub async fn on_tcp(options: &PgConnectOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self::listen(Endpoint::Port(port), options, Listener::Tcp(listener))
    }

    fn listen(endpoint: Endpoint, options: &PgConnectOptions, listener: Listener) -> Self {
        let state = watch::Sender::new(State::default());
        let open = Arc::new(AtomicUsize::new(0));
        let (sender, count, options) = (state.clone(), open.clone(), options.clone());
        tokio::spawn(async move {
            while let Ok(client) = listener.accept().await {
                let mut number = 0;
                sender.send_modify(|state| {
                    number = state.next;
                    state.next += 1;
                });
                let receiver = sender.subscribe();
                let Ok(server) = connect(&options).await else {
                    client.reset_on_close();
                    continue;
                };
                let guard = OpenConnection::new(&count);
                tokio::spawn(forward(client, server, number, guard, receiver));
            }
        });
        Self { endpoint, state, open }
    }

    /// Options that reach the same database through this proxy.
    pub fn options_through(&self, options: PgConnectOptions) -> PgConnectOptions {
        match &self.endpoint {
            Endpoint::Directory(directory) => options.socket(directory.path()),
            Endpoint::Port(port) => options.host("127.0.0.1").port(*port),
        }
    }

    /// Stops forwarding. Present connections never receive anything again.
    pub fn stall(&self) {
        self.state.send_modify(|state| (state.stalled, state.first_forwarded) = (true, state.next));
    }

    /// Forwards again, but only on connections that were opened since the stall began.
    pub fn resume(&self) {
        self.state.send_modify(|state| state.stalled = false);
    }

    /// The number of connections so far, which is the number of the next one.
    pub fn next_connection(&self) -> usize {
        self.state.borrow().next
    }

    /// Delays the responses of PostgreSQL on one connection, or on no connection.
    pub fn delay_responses(&self, connection: Option<usize>) {
        self.state.send_modify(|state| state.delayed = connection);
    }

    /// Breaks all present connections.
    pub fn break_connections(&self) {
        self.state.send_modify(|state| state.first_unbroken = state.next);
    }

    /// The number of connections whose client has not closed them.
    pub fn open_connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

impl State {
    fn is_broken(&self, number: usize) -> bool {
        number < self.first_unbroken
    }

    fn forwards(&self, number: usize) -> bool {
        !self.stalled && number >= self.first_forwarded
    }

    fn forwards_responses(&self, number: usize) -> bool {
        self.forwards(number) && self.delayed != Some(number)
    }
}

/// Counts a connection as open until it is dropped.
struct OpenConnection(Arc<AtomicUsize>);

impl OpenConnection {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(open.clone())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn socket(directory: &Path, options: &PgConnectOptions) -> PathBuf {
    directory.join(format!(".s.PGSQL.{}", options.get_port()))
}

async fn connect(options: &PgConnectOptions) -> io::Result<Box<dyn Stream>> {
    Ok(match options.get_socket() {
        Some(directory) => Box::new(UnixStream::connect(socket(directory, options)).await?),
        None => {
            let address = (options.get_host(), options.get_port());
            Box::new(TcpStream::connect(address).await?)
        }
    })
}

/// Forwards both directions until one side closes or the connection is broken.
async fn forward(
    mut client: Box<dyn Stream>,
    mut server: Box<dyn Stream>,
    number: usize,
    guard: OpenConnection,
    state: watch::Receiver<State>,
) {
    let mut breaks = state.clone();
    let is_broken = async { breaks.wait_for(|state| state.is_broken(number)).await.is_ok() };
    tokio::pin!(is_broken);
    let (mut from_client, mut to_client) = tokio::io::split(&mut client);
    let (mut from_server, mut to_server) = tokio::io::split(&mut server);
    let requests = |state: &State| state.forwards(number);
    let responses = |state: &State| state.forwards_responses(number);
    let broken = tokio::select! {
        () = copy(&mut from_client, &mut to_server, state.clone(), requests) => false,
        () = copy(&mut from_server, &mut to_client, state.clone(), responses) => false,
        broken = &mut is_broken => broken,
    };
    if broken {
        client.reset_on_close();
        server.reset_on_close();
        return;
    }
    let forwards = state.borrow().forwards(number);
    drop((guard, client));
    if !forwards {
        // PostgreSQL does not see the close.
        is_broken.await;
    }
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut state: watch::Receiver<State>,
    forwards: impl Fn(&State) -> bool,
) {
    let mut pending = Vec::with_capacity(65_536);
    loop {
        tokio::select! {
            // Waits for ever if the connection is never forwarded again.
            ok = async { state.wait_for(|state| forwards(state)).await.is_ok() },
                if !pending.is_empty() =>
            {
                if !ok || to.write_all(&pending).await.is_err() {
                    return;
                }
                pending.clear();
            }
            read = from.read_buf(&mut pending) => if !matches!(read, Ok(1..)) { break },
        }
    }
    let forwarded = forwards(&state.borrow());
    if forwarded {
        let _ = to.write_all(&pending).await;
        let _ = to.shutdown().await;
    }
}
