//! A way to the database that a test can make fall silent.

use std::path::{Path, PathBuf};

use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;

/// Passes on what PostgreSQL and its clients say, unless it is silent: then both hear nothing more,
/// and no connection ends.
pub struct Proxy {
    directory: TempDir,
    silent: watch::Sender<bool>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Proxy {
    /// To the server of `options`.
    pub fn to(options: &PgConnectOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(socket(directory.path(), options)).unwrap();
        let (silent, heard) = watch::channel(false);
        let options = options.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, heard) = (connect(&options).await, heard.clone());
                tokio::spawn(async move {
                    let (client, server) = (tokio::io::split(client), tokio::io::split(server));
                    let there = pass_on(client.0, server.1, heard.clone());
                    let back = pass_on(server.0, client.1, heard);
                    tokio::join!(there, back);
                });
            }
        });
        Self { directory, silent }
    }

    /// The same database, through this.
    pub fn way(&self, options: PgConnectOptions) -> PgConnectOptions {
        options.socket(self.directory.path())
    }

    pub fn fall_silent(&self) {
        self.silent.send_replace(true);
    }
}

fn socket(directory: &Path, options: &PgConnectOptions) -> PathBuf {
    directory.join(format!(".s.PGSQL.{}", options.get_port()))
}

async fn connect(options: &PgConnectOptions) -> Box<dyn Stream> {
    match options.get_socket() {
        Some(directory) => Box::new(UnixStream::connect(socket(directory, options)).await.unwrap()),
        None => {
            let address = (options.get_host(), options.get_port());
            Box::new(TcpStream::connect(address).await.unwrap())
        }
    }
}

async fn pass_on(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut silent: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 65_536];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        // For ever, once it is so.
        if silent.wait_for(|silent| !silent).await.is_err()
            || to.write_all(&buffer[..length]).await.is_err()
        {
            break;
        }
    }
    let _ = to.shutdown().await;
}
