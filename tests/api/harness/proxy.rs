//! A proxy in front of the database that a test can silence or break.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;

/// Forwards the bytes of PostgreSQL and its clients. While it is silent, both sides receive nothing
/// and no connection ends.
pub struct Proxy {
    at: At,
    state: watch::Sender<State>,
    open: Arc<AtomicUsize>,
}

enum At {
    Directory(TempDir),
    Port(u16),
}

/// Connections are numbered in the order of their arrival.
#[derive(Clone, Copy, Default)]
struct State {
    next: usize,
    silent: bool,
    /// Connections with a lower number never receive anything again.
    forgotten: usize,
    /// Connections with a lower number are broken.
    cut: usize,
    /// The connection whose responses are delayed.
    unanswered: Option<usize>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Makes the close of the stream a reset.
    fn will_break(&self) {}
}

impl Stream for UnixStream {}

impl Stream for TcpStream {
    fn will_break(&self) {
        let _ = socket2::SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl Proxy {
    /// A proxy to the server of `options`, on a Unix socket.
    pub fn to(options: &PgConnectOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(socket(directory.path(), options)).unwrap();
        Self::listen(At::Directory(directory), options, Listener::Unix(listener))
    }

    /// A proxy to the server of `options`, on TCP.
    pub async fn on_tcp(options: &PgConnectOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self::listen(At::Port(port), options, Listener::Tcp(listener))
    }

    fn listen(at: At, options: &PgConnectOptions, listener: Listener) -> Self {
        let state = watch::Sender::new(State::default());
        let open = Arc::new(AtomicUsize::new(0));
        let (telling, counting, options) = (state.clone(), open.clone(), options.clone());
        tokio::spawn(async move {
            while let Ok(client) = listener.accept().await {
                let mut number = 0;
                telling.send_modify(|state| {
                    number = state.next;
                    state.next += 1;
                });
                let heard = telling.subscribe();
                let Ok(server) = connect(&options).await else {
                    client.will_break();
                    continue;
                };
                let counted = Counted::among(&counting);
                tokio::spawn(carry(client, server, number, counted, heard));
            }
        });
        Self { at, state, open }
    }

    /// Options that reach the same database through this proxy.
    pub fn way(&self, options: PgConnectOptions) -> PgConnectOptions {
        match &self.at {
            At::Directory(directory) => options.socket(directory.path()),
            At::Port(port) => options.host("127.0.0.1").port(*port),
        }
    }

    /// Stops forwarding. Present connections never receive anything again.
    pub fn fall_silent(&self) {
        self.state.send_modify(|state| (state.silent, state.forgotten) = (true, state.next));
    }

    /// Forwards again, but only on connections that were opened since the silence began.
    pub fn speak_again(&self) {
        self.state.send_modify(|state| state.silent = false);
    }

    /// The number of connections so far, which is the number of the next one.
    pub fn next(&self) -> usize {
        self.state.borrow().next
    }

    /// Delays the responses of PostgreSQL on one connection, or on no connection.
    pub fn hold_back(&self, unanswered: Option<usize>) {
        self.state.send_modify(|state| state.unanswered = unanswered);
    }

    /// Breaks all present connections.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cut = state.next);
    }

    /// The number of connections whose client has not closed them.
    pub fn open(&self) -> usize {
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
    fn is_cut(&self, number: usize) -> bool {
        number < self.cut
    }

    fn carries(&self, number: usize) -> bool {
        !self.silent && number >= self.forgotten
    }

    fn answers(&self, number: usize) -> bool {
        self.carries(number) && self.unanswered != Some(number)
    }
}

struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn among(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(open.clone())
    }
}

impl Drop for Counted {
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
async fn carry(
    mut client: Box<dyn Stream>,
    mut server: Box<dyn Stream>,
    number: usize,
    counted: Counted,
    state: watch::Receiver<State>,
) {
    let mut cut = state.clone();
    let is_cut = async { cut.wait_for(|state| state.is_cut(number)).await.is_ok() };
    tokio::pin!(is_cut);
    let (mut from_client, mut to_client) = tokio::io::split(&mut client);
    let (mut from_server, mut to_server) = tokio::io::split(&mut server);
    let broken = tokio::select! {
        () = pass_on(&mut from_client, &mut to_server, state.clone(), |state| state.carries(number)) => false,
        () = pass_on(&mut from_server, &mut to_client, state.clone(), |state| state.answers(number)) => false,
        broken = &mut is_cut => broken,
    };
    if broken {
        client.will_break();
        server.will_break();
        return;
    }
    let carries = state.borrow().carries(number);
    drop((counted, client));
    if !carries {
        // PostgreSQL does not see the close.
        is_cut.await;
    }
}

async fn pass_on(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut state: watch::Receiver<State>,
    carries: impl Fn(&State) -> bool,
) {
    let mut held = Vec::with_capacity(65_536);
    loop {
        tokio::select! {
            // Waits for ever if the connection is never released.
            ok = async { state.wait_for(|state| carries(state)).await.is_ok() }, if !held.is_empty() => {
                if !ok || to.write_all(&held).await.is_err() {
                    return;
                }
                held.clear();
            }
            read = from.read_buf(&mut held) => if !matches!(read, Ok(1..)) { break },
        }
    }
    let carried = carries(&state.borrow());
    if carried {
        let _ = to.write_all(&held).await;
        let _ = to.shutdown().await;
    }
}
