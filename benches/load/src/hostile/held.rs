//! Clients that never finish: idle connections, headers, bodies and responses that stand still.
//!
//! Each client sends its first bytes at once, as far as the server takes them, and one more byte a
//! second. A client whose connection the server closes connects again.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, SocketType, bind, socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The pause between two bytes of a client.
const INTERVAL: Duration = Duration::from_secs(1);
/// The receive buffer of a client that does not read.
const SMALL_BUFFER: usize = 4_096;

/// File descriptors for all connections.
const FILES: u64 = 65_536;

/// The behavior of the clients of a group.
#[derive(Clone)]
pub struct Behavior {
    /// The name of the group.
    pub name: &'static str,
    /// The number of clients.
    pub count: usize,
    /// Their address, one of 127.0.0.0/8.
    pub address: Ipv4Addr,
    /// The bytes that each client sends at once.
    pub first: Vec<u8>,
    /// The byte that follows each second, if any.
    pub then: Option<u8>,
    /// Whether the clients read responses. They never look at them.
    pub reads: bool,
}

/// A group of clients that runs until it is stopped.
pub struct HeldConnections {
    name: &'static str,
    state: Arc<State>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    is_over: AtomicBool,
    /// The number of open connections.
    open: AtomicU64,
    /// The number of connections that ended, or could not be opened.
    ended: AtomicU64,
}

impl HeldConnections {
    /// Starts the clients of a group.
    pub fn start(port: u16, behavior: Behavior) -> Self {
        let state = Arc::<State>::default();
        let (name, shared) = (behavior.name, state.clone());
        let thread = std::thread::spawn(move || run(port, &behavior, &shared));
        Self { name, state, thread }
    }

    /// The name, the number of open connections, and of those that have ended.
    pub fn describe(&self) -> String {
        let (open, ended) = (&self.state.open, &self.state.ended);
        let (open, ended) = (open.load(Ordering::Relaxed), ended.load(Ordering::Relaxed));
        format!("{}: {open} open, {ended} ended", self.name)
    }

    /// Closes all connections.
    pub fn stop(self) {
        self.state.is_over.store(true, Ordering::Relaxed);
        // A panic of the clients was printed.
        let _ = self.thread.join();
    }
}

/// A connection, and the first bytes that it has sent.
struct Client {
    stream: TcpStream,
    sent: usize,
}

fn run(port: u16, behavior: &Behavior, state: &State) {
    let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let mut clients: Vec<Option<Client>> = (0..behavior.count).map(|_| None).collect();
    while !state.is_over.load(Ordering::Relaxed) {
        let round = Instant::now();
        for client in &mut clients {
            if state.is_over.load(Ordering::Relaxed) {
                return;
            }
            if client.is_none() {
                *client = connect(server, behavior).ok();
                let counter = if client.is_some() { &state.open } else { &state.ended };
                counter.fetch_add(1, Ordering::Relaxed);
            }
            if client.as_mut().is_some_and(|client| !client.is_kept(behavior)) {
                *client = None;
                state.open.fetch_sub(1, Ordering::Relaxed);
                state.ended.fetch_add(1, Ordering::Relaxed);
            }
        }
        std::thread::sleep(INTERVAL.saturating_sub(round.elapsed()));
    }
}

fn connect(server: SocketAddrV4, behavior: &Behavior) -> std::io::Result<Client> {
    let socket: OwnedFd = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    if !behavior.reads {
        set_socket_recv_buffer_size(&socket, SMALL_BUFFER)?;
    }
    bind(&socket, &SocketAddr::from((behavior.address, 0)))?;
    rustix::net::connect(&socket, &server)?;
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(true)?;
    Ok(Client { stream, sent: 0 })
}

impl Client {
    /// Sends the bytes that the server takes now. Returns whether the connection is still open.
    fn is_kept(&mut self, behavior: &Behavior) -> bool {
        let is_first = self.sent < behavior.first.len();
        let rest = &behavior.first[self.sent..];
        let sent = match (rest, behavior.then) {
            ([], None) => Ok(0),
            ([], Some(byte)) => self.stream.write(&[byte]),
            (rest, _) => self.stream.write(rest),
        };
        match sent {
            Ok(sent) if is_first => self.sent += sent,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
        if !behavior.reads {
            return true;
        }
        let mut chunk = [0; 4_096];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(_) => true,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }
}

/// Raises the number of files that this process and the servers may open, as far as possible.
pub fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let more = Rlimit { current: Some(FILES), maximum: Some(FILES) };
    if limit.maximum.is_some_and(|maximum| maximum >= FILES)
        || setrlimit(Resource::Nofile, more).is_err()
    {
        let most = Rlimit { current: limit.maximum, ..limit };
        let _ = setrlimit(Resource::Nofile, most);
    }
    getrlimit(Resource::Nofile).current.unwrap_or(FILES)
}
