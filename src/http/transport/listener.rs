//! The listening socket: first bound, then served.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_http::Request;
use actix_server::ServerHandle;
use actix_service::IntoServiceFactory;
use actix_web::body::MessageBody;
use ipnet::IpNet;
use rustix::event::{PollFd, PollFlags, Timespec};
#[cfg(target_os = "linux")]
use socket2::SockFilter;

use super::connections::{self, ConnectionHandler, HttpApp};
use super::graceful_shutdown::GracefulShutdown;
use super::tls::Tls;
use crate::http::options::Options;
use crate::metrics::Metrics;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

/// Bytes of a response that the system buffers before the client has room for them.
#[cfg(target_os = "linux")]
const NOTSENT_LOWAT: u32 = 128 * 1024;

/// Memory of the system for bytes of a request that the server has not read. About half of it can be on the way
/// in one round trip, so a body of 1 MiB takes up to sixteen of them. Without this limit, the system would let
/// the buffer grow to several MiB.
const RECEIVE_BUFFER: usize = 128 * 1024;

/// Memory of the system for bytes of responses that the client has not confirmed. At most as many can be on the
/// way in one round trip. A client that reads, and never confirms, holds no more than this.
const SEND_BUFFER: usize = 256 * 1024;

/// The system counts this many bytes for each byte that it is asked for: Linux adds its own data.
const COUNTED: usize = if cfg!(target_os = "linux") { 2 } else { 1 };

/// The time for the accepting thread to pause. The thread does not confirm the pause. If it needs
/// longer, it logs an error about the closed socket, which is harmless.
const PAUSE_GRACE: Duration = Duration::from_millis(50);

/// The time for a TCP handshake that has begun to end. Networks of one site need less.
const HANDSHAKE_GRACE: Duration = Duration::from_millis(100);

/// The time for the system's queue of new connections to become empty.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(1);
/// The interval between two checks of the queue.
const QUEUE_CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// A bound socket.
pub struct Listener {
    socket: TcpListener,
    /// Whether another process holds the socket too, such as a service manager, and gives it to the
    /// next server. Then a stop neither closes the socket nor drops its queue.
    is_shared: bool,
}

/// A server on a bound socket.
pub struct Server(actix_server::Server);

/// Stops a server in three steps: [`drain`](Self::drain), [`close`](Self::close) and
/// [`stop`](Self::stop). Its threads live on until the last one.
pub struct ShutdownHandle {
    handle: ServerHandle,
    listener: Listener,
    shutdown: Arc<GracefulShutdown>,
}

impl Listener {
    /// Binds the first free address of `address`, as `HOST:PORT`; port 0 selects a free port.
    ///
    /// # Errors
    /// If the name is unknown, or all its addresses are unavailable.
    pub fn bind(address: &str) -> io::Result<Self> {
        let mut last_error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in address.to_socket_addrs()? {
            match listen(address) {
                Ok(socket) => return Ok(Self { socket, is_shared: false }),
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }

    /// Uses a listening socket that another process holds too, and gives to the next server.
    ///
    /// # Errors
    /// If the system refuses an option of the socket.
    pub fn from_shared(socket: TcpListener) -> io::Result<Self> {
        limit_buffers(&socket2::SockRef::from(&socket))?;
        Ok(Self { socket, is_shared: true })
    }

    /// The bound address.
    ///
    /// # Errors
    /// If the system does not report the address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves an application, which each thread builds for itself. `shutdown` counts its requests.
    /// With `tls`, connections without TLS are refused. The connections of `trusted_proxies` do not
    /// count as those of an address.
    ///
    /// # Errors
    /// If the system refuses the socket.
    pub(crate) fn serve<A, F, B>(
        self,
        options: Options,
        tls: Option<&Tls>,
        metrics: Arc<Metrics>,
        shutdown: Arc<GracefulShutdown>,
        trusted_proxies: Arc<[IpNet]>,
        app: impl Fn() -> A + Clone + Send + 'static,
    ) -> io::Result<(Server, ShutdownHandle)>
    where
        A: IntoServiceFactory<F, Request> + 'static,
        F: HttpApp<B>,
        B: MessageBody + 'static,
    {
        let listener = Self { socket: self.socket.try_clone()?, is_shared: self.is_shared };
        let handler = ConnectionHandler::new(options, trusted_proxies, metrics)
            .with_tls(tls.map(Tls::acceptor))
            .with_shutdown(shutdown.clone());
        let server = self.start(handler, app)?;
        let handle = server.handle();
        Ok((Server(server), ShutdownHandle { handle, listener, shutdown }))
    }

    /// Serves an application, which each thread builds for itself, without TLS or a graceful
    /// shutdown.
    pub(crate) fn serve_app<A, F, B>(
        self,
        options: Options,
        app: impl Fn() -> A + Clone + Send + 'static,
    ) -> io::Result<Server>
    where
        A: IntoServiceFactory<F, Request> + 'static,
        F: HttpApp<B>,
        B: MessageBody + 'static,
    {
        let handler = ConnectionHandler::new(options, Arc::default(), Arc::default());
        self.start(handler, app).map(Server)
    }

    fn start<A, F, B>(
        self,
        handler: ConnectionHandler,
        app: impl Fn() -> A + Clone + Send + 'static,
    ) -> io::Result<actix_server::Server>
    where
        A: IntoServiceFactory<F, Request> + 'static,
        F: HttpApp<B>,
        B: MessageBody + 'static,
    {
        let Options { workers, shutdown_timeout, .. } = handler.options;
        // A connection without a slot waits in its thread, and all others in the system's queue.
        let max_per_worker = handler.max_per_thread + 1;
        let service = move || connections::service(handler.clone(), app.clone());
        let server = actix_server::Server::build()
            .workers(workers)
            .max_concurrent_connections(max_per_worker)
            .shutdown_timeout(shutdown_timeout.as_secs())
            .disable_signals()
            .listen("http", self.socket, service)?;
        Ok(server.run())
    }
}

impl Server {
    /// The handle that stops the server.
    pub(crate) fn handle(&self) -> ServerHandle {
        self.0.handle()
    }

    /// Runs until the server is stopped.
    ///
    /// # Errors
    /// If the system refuses to wait for connections.
    pub async fn run(self) -> io::Result<()> {
        self.0.await
    }
}

impl ShutdownHandle {
    /// A function that returns the number of requests in flight.
    #[must_use]
    pub fn in_flight_counter(&self) -> Box<dyn Fn() -> usize + Send + Sync> {
        let shutdown = self.shutdown.clone();
        Box::new(move || shutdown.in_flight())
    }

    /// The phase of the server.
    pub(crate) fn shutdown(&self) -> &Arc<GracefulShutdown> {
        &self.shutdown
    }

    /// Reports that the server is not ready, and asks clients to close their connections. Everything
    /// is served as before.
    pub fn drain(&self) {
        self.shutdown.begin_drain();
    }

    /// Accepts no more connections, closes each one that owes no response, and waits until all
    /// responses are written.
    pub async fn close(&self) {
        self.shutdown.begin_drain();
        self.stop_accepting().await;
        self.shutdown.begin_closing();
        self.shutdown.wait_closed().await;
    }

    /// Closes all connections, and stops the threads.
    pub async fn stop(&self) {
        self.handle.stop(false).await;
    }

    /// Accepts every connection whose handshake has begun, and no others.
    async fn stop_accepting(&self) {
        let Listener { socket, is_shared } = &self.listener;
        if !is_shared {
            // Without this filter, connections could still come after the last check of the queue, and
            // the end of the socket would reset them with their requests.
            refuse_handshakes(socket);
            tokio::time::sleep(HANDSHAKE_GRACE).await;
            // All threads may be full. Then the queue never becomes empty.
            let give_up_at = Instant::now() + QUEUE_TIMEOUT;
            while has_queued_connection(socket) && Instant::now() < give_up_at {
                tokio::time::sleep(QUEUE_CHECK_INTERVAL).await;
            }
        }
        self.handle.pause().await;
        tokio::time::sleep(PAUSE_GRACE).await;
        if !is_shared {
            // New connections to a paused server would wait for a response that never comes. A
            // shutdown of the socket refuses them, on systems that support it.
            let _ = socket2::SockRef::from(socket).shutdown(Shutdown::Both);
        }
    }
}

/// Drops the first packet of each new connection. The client sends the packet again after a second,
/// and the closed socket refuses it then.
#[cfg(target_os = "linux")]
fn refuse_handshakes(socket: &TcpListener) {
    // A program of the classic Berkeley Packet Filter. Its packet begins with the TCP header: drop it
    // if it has SYN. All other packets pass whole.
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    let program = [
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(JUMP_IF_SET, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
    if let Err(error) = socket2::SockRef::from(socket).attach_filter(&program) {
        tracing::debug!(%error, "new connections may be reset while the socket closes");
    }
}

#[cfg(not(target_os = "linux"))]
fn refuse_handshakes(_socket: &TcpListener) {}

/// Whether the system's queue of new connections is not empty.
fn has_queued_connection(socket: &TcpListener) -> bool {
    let mut watched = [PollFd::new(socket, PollFlags::IN)];
    rustix::event::poll(&mut watched, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    // On Unix, a restarted server can bind its port again at once, but not a port in use.
    socket.set_reuse_address(cfg!(unix))?;
    limit_buffers(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Limits the bytes that the system buffers for a connection. Connections inherit all options. Responses to a
/// slow reader wait in the server then, not in the system, so the server notices early that the client
/// reads. Requests that the server does not read yet wait at the client.
fn limit_buffers(socket: &socket2::Socket) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER / COUNTED)?;
    socket.set_send_buffer_size(SEND_BUFFER / COUNTED)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpStream;

    use super::*;

    /// The largest part that the system moves at once.
    const PART: usize = 64 * 1024;

    /// A listener that begins its connections, and one that another process gave to the server.
    fn listeners() -> [Listener; 2] {
        let shared = TcpListener::bind("127.0.0.1:0").unwrap();
        [Listener::bind("127.0.0.1:0").unwrap(), Listener::from_shared(shared).unwrap()]
    }

    /// A client whose own buffers are small, and the connection of the server.
    fn connect(listener: &Listener) -> (TcpStream, TcpStream) {
        let address = listener.address().unwrap();
        let domain = socket2::Domain::for_address(address);
        let client = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
        client.set_send_buffer_size(4 * 1024).unwrap();
        client.set_recv_buffer_size(4 * 1024).unwrap();
        client.connect(&address.into()).unwrap();
        let (accepted, _) = listener.socket.accept().unwrap();
        (client.into(), accepted)
    }

    /// Writes until the system takes no more. Returns the number of written bytes.
    fn fill(mut connection: &TcpStream) -> usize {
        connection.set_nonblocking(true).unwrap();
        let piece = [b'x'; 16 * 1024];
        let mut written = 0;
        loop {
            match connection.write(&piece) {
                Ok(bytes) => written += bytes,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            // The buffer has room again as soon as the system of the other side has taken its bytes.
            let mut watched = [PollFd::new(connection, PollFlags::OUT)];
            let timeout = Timespec { tv_sec: 0, tv_nsec: 300_000_000 };
            if rustix::event::poll(&mut watched, Some(&timeout)).unwrap() == 0 {
                return written;
            }
        }
    }

    #[test]
    fn buffers_of_a_connection_have_the_sizes_of_the_listener() {
        for listener in listeners() {
            let (_client, accepted) = connect(&listener);
            let socket = socket2::SockRef::from(&accepted);
            assert_eq!(socket.recv_buffer_size().unwrap(), RECEIVE_BUFFER);
            assert_eq!(socket.send_buffer_size().unwrap(), SEND_BUFFER);
        }
    }

    #[test]
    fn system_buffers_a_bounded_part_of_a_request_that_is_not_read() {
        for listener in listeners() {
            let (client, _accepted) = connect(&listener);
            let written = fill(&client);
            assert!(written <= RECEIVE_BUFFER + PART, "{written} bytes were taken");
        }
    }

    #[test]
    fn system_buffers_a_bounded_part_of_a_response_that_is_not_read() {
        for listener in listeners() {
            let (_client, accepted) = connect(&listener);
            let written = fill(&accepted);
            // Linux stops earlier, because nothing is on the way to a client without room.
            let bound = if cfg!(target_os = "linux") { 128 * 1024 } else { SEND_BUFFER };
            assert!(written <= bound + PART, "{written} bytes were taken");
        }
    }
}
