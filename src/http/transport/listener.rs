//! The listening socket: first bound, then served.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use actix_http::Request;
use actix_server::ServerHandle;
use actix_service::IntoServiceFactory;
use actix_web::body::MessageBody;
use ipnet::IpNet;

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

/// The time for the accepting thread to pause, which it does not confirm. If the thread is slower,
/// it reports an error that means nothing.
const PAUSE_GRACE: Duration = Duration::from_millis(50);

/// A bound socket.
pub struct Listener(TcpListener);

/// A server on a bound socket.
pub struct Server(actix_server::Server);

/// Stops a server in two steps: [`drain`](Self::drain) and [`stop`](Self::stop). Its threads and
/// open connections live on between them.
pub struct ShutdownHandle {
    handle: ServerHandle,
    listener: TcpListener,
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
                Ok(listener) => return Ok(Self(listener)),
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }

    /// The bound address.
    ///
    /// # Errors
    /// If the system does not report the address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
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
        let listener = self.0.try_clone()?;
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
        // A connection without a place waits in its thread, and all others in the system's queue.
        let max_per_worker = handler.max_per_thread + 1;
        let service = move || connections::service(handler.clone(), app.clone());
        let server = actix_server::Server::build()
            .workers(workers)
            .max_concurrent_connections(max_per_worker)
            .shutdown_timeout(shutdown_timeout.as_secs())
            .disable_signals()
            .listen("http", self.0, service)?;
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
    /// A function that returns the number of running requests.
    #[must_use]
    pub fn in_flight_counter(&self) -> Box<dyn Fn() -> usize + Send + Sync> {
        let shutdown = self.shutdown.clone();
        Box::new(move || shutdown.in_flight())
    }

    /// Asks clients to close their connections, accepts no more, and waits until no request runs.
    pub async fn drain(&self) {
        self.shutdown.begin();
        self.handle.pause().await;
        tokio::time::sleep(PAUSE_GRACE).await;
        // New connections to a paused server would wait for a response that never comes. A shutdown
        // of the socket refuses them, on systems that support it.
        let _ = socket2::SockRef::from(&self.listener).shutdown(Shutdown::Both);
        self.shutdown.wait_idle().await;
    }

    /// Closes all connections, and stops the threads.
    pub async fn stop(&self) {
        self.handle.stop(false).await;
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    // On Unix, a restarted server can bind its port again at once, but not a port in use.
    socket.set_reuse_address(cfg!(unix))?;
    // Connections inherit this option. Responses to a slow reader wait in the server then, not in
    // the system, so the server notices early that the client reads.
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
