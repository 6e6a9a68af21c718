//! The servers of one database, of which one is the primary.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{Connection as _, Error};

use super::connection_settings::{self, MARK, OF_SESSION, OF_STATEMENTS};
use crate::config::TargetServer;
use crate::telemetry::cause_chain;

/// The time limit of an attempt to connect to one of several servers.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The servers of a database, in the order in which they are tried.
#[derive(Clone, Debug)]
pub struct DatabaseServers {
    first: Arc<PgConnectOptions>,
    others: Vec<Arc<PgConnectOptions>>,
    target: TargetServer,
    connect_timeout: Option<Duration>,
    /// The settings of each transaction, if a pooler is between.
    transaction_settings: Option<Vec<(String, String)>>,
    /// Whether TLS has failed with each server, so that `sslmode=prefer` goes on without it.
    without_tls: Arc<[AtomicBool]>,
}

impl DatabaseServers {
    /// The servers `first` and `others`. An attempt to connect to one of them takes at most
    /// `connect_timeout`; the default for several servers is 2 s.
    #[must_use]
    pub fn new(
        first: PgConnectOptions,
        others: Vec<PgConnectOptions>,
        target: TargetServer,
        connect_timeout: Option<Duration>,
    ) -> Self {
        let others: Vec<_> = others.into_iter().map(Arc::new).collect();
        let default = (!others.is_empty()).then_some(DEFAULT_CONNECT_TIMEOUT);
        let connect_timeout = connect_timeout.or(default);
        let without_tls = (0..=others.len()).map(|_| AtomicBool::new(false)).collect();
        let first = Arc::new(first);
        Self { first, others, target, connect_timeout, transaction_settings: None, without_tls }
    }

    /// The same servers, reached through a pooler that lends a session of PostgreSQL for one
    /// transaction. `settings` are made in each transaction. The pooler refuses or drops settings of
    /// a connection.
    #[must_use]
    pub fn behind_pooler(self, settings: Vec<(String, String)>) -> Self {
        let plain = self.map(|options| options.extra_float_digits(None));
        Self { transaction_settings: Some(settings), ..plain }
    }

    /// Whether a pooler is between.
    pub(super) fn is_pooled(&self) -> bool {
        self.transaction_settings.is_some()
    }

    /// The statement that begins a transaction with its settings, if a pooler is between.
    pub(super) fn begin_statement(&self) -> Option<String> {
        let settings = self.transaction_settings.as_ref()?;
        let settings = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Some(connection_settings::begin(settings))
    }

    /// The same servers with all settings that every version of PostgreSQL knows.
    pub(super) fn with_fixed_settings(&self, statement_timeout: Duration) -> Self {
        let statement_timeout = statement_timeout.as_millis().to_string();
        let named = self.map(|options| options.application_name("muster"));
        let fixed = named.with_settings(&OF_STATEMENTS).with_settings(&[
            ("statement_timeout", statement_timeout.as_str()),
            // A client that vanishes during a transaction must not keep its sessions locked.
            ("idle_in_transaction_session_timeout", statement_timeout.as_str()),
            // Statements here end within milliseconds, but compiling one takes half a second. The
            // planner would compile them, because it does not know how few rows a limit leaves.
            ("jit", "off"),
        ]);
        match fixed.is_pooled() {
            true => fixed,
            false => fixed.with_settings(&OF_SESSION).with_settings(&[MARK]),
        }
    }

    /// The same servers with more settings of PostgreSQL.
    pub(super) fn with_settings(&self, settings: &[(&str, &str)]) -> Self {
        let Some(before) = &self.transaction_settings else {
            return self.map(|options| options.options(settings.iter().copied()));
        };
        let added = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings = before.iter().cloned().chain(added).collect();
        Self { transaction_settings: Some(settings), ..self.clone() }
    }

    /// The same servers with changed options.
    pub(super) fn map(&self, change: impl Fn(PgConnectOptions) -> PgConnectOptions) -> Self {
        let change = |options: &Arc<PgConnectOptions>| Arc::new(change(options.as_ref().clone()));
        Self {
            first: change(&self.first),
            others: self.others.iter().map(change).collect(),
            target: self.target,
            connect_timeout: self.connect_timeout,
            transaction_settings: self.transaction_settings.clone(),
            without_tls: self.without_tls.clone(),
        }
    }

    /// The number of servers, at least one.
    pub(super) fn len(&self) -> usize {
        1 + self.others.len()
    }

    /// The options of a server. An index beyond the last one means the first server.
    pub(super) fn get(&self, index: usize) -> Arc<PgConnectOptions> {
        let options = self.configured(index);
        if self.without_tls.get(index).is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            return Arc::new(options.as_ref().clone().ssl_mode(PgSslMode::Disable));
        }
        options.clone()
    }

    /// Opens a connection to a server. As in libpq, `sslmode=prefer` goes on without TLS if TLS
    /// fails: the library cannot read every certificate, and this mode checks none.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub(super) async fn connect(&self, index: usize) -> Result<PgConnection, Error> {
        let options = self.get(index);
        let error = match PgConnection::connect_with(&options).await {
            Err(error) if is_tls_failure(&error) => error,
            connected => return connected,
        };
        let (PgSslMode::Prefer, Some(without_tls)) =
            (options.get_ssl_mode(), self.without_tls.get(index))
        else {
            return Err(error);
        };
        let options = options.as_ref().clone().ssl_mode(PgSslMode::Disable);
        let connected = PgConnection::connect_with(&options).await?;
        if !without_tls.swap(true, Ordering::Relaxed) {
            let (error, server) = (cause_chain(&error), self.name(index));
            tracing::warn!(%error, server, "TLS fails: connecting without it (sslmode=prefer)");
        }
        Ok(connected)
    }

    fn configured(&self, index: usize) -> &Arc<PgConnectOptions> {
        index.checked_sub(1).and_then(|index| self.others.get(index)).unwrap_or(&self.first)
    }

    /// The host and the port of a server, for people.
    pub(super) fn name(&self, index: usize) -> String {
        let options = self.configured(index);
        match options.get_socket() {
            Some(socket) => format!("{}:{}", socket.display(), options.get_port()),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        }
    }

    pub(super) fn target(&self) -> TargetServer {
        self.target
    }

    pub(super) fn connect_timeout(&self) -> Option<Duration> {
        self.connect_timeout
    }
}

/// Whether the handshake of TLS failed.
fn is_tls_failure(error: &Error) -> bool {
    match error {
        Error::Tls(_) => true,
        // The library reports a certificate that it cannot read in this way.
        Error::Io(error) => error.kind() == io::ErrorKind::InvalidData,
        _ => false,
    }
}

impl From<PgConnectOptions> for DatabaseServers {
    /// One server of any role.
    fn from(options: PgConnectOptions) -> Self {
        Self::new(options, Vec::new(), TargetServer::Any, None)
    }
}
