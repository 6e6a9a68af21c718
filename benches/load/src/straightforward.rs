//! The reference for the cost of group commit with one client: actix handlers that run Muster's own
//! statements through sqlx, one for each request.
//!
//! The handlers open, decide, write and seal. They check no token, and limit, count, log and store
//! nothing else. Each thread has one connection. Read and written sessions stay in memory, so an
//! update is one statement, as in Muster.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::error::ErrorInternalServerError;
use actix_web::{HttpResponse, web};
use anyhow::Context as _;
use clap::Args;
use muster::clock::Clock;
use muster::domain::{
    Account, Action, AppId, Attributes, Buin, NewSession, Request, Session, SessionId, Title,
    Update,
};
use muster::repository::sessions::{self, ChangeSet, NewSessionRecord, VersionedChange};
use muster::wire::Envelope;
use serde::Deserialize;
use serde_json::json;
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use crate::direct::{RULES, new_id, provenance};
use crate::reference;

/// The options of the service.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    reference: reference::Options,
    /// The app's enterprise
    #[arg(long)]
    buin: i64,
    /// The directory of the database's socket
    #[arg(long)]
    socket: PathBuf,
}

/// Serves until the process ends.
///
/// # Errors
/// If the port is in use.
pub fn serve(Options { reference, buin, socket }: &Options) -> anyhow::Result<()> {
    let app = Arc::new(Shared {
        envelope: reference.envelope()?,
        id: reference.app_id.parse()?,
        buin: Buin::new(*buin)?,
        sessions: Mutex::default(),
        // The settings of Muster's own connections, without their timeouts.
        database: PgConnectOptions::new_without_pgpass()
            .socket(socket)
            .username("muster")
            .database("muster")
            .options([("plan_cache_mode", "force_generic_plan")]),
    });
    reference.serve(move |service| {
        let worker = Worker { app: app.clone(), connection: tokio::sync::Mutex::default() };
        service
            .app_data(web::Data::new(worker))
            .route("/cgi/session/create", web::post().to(create))
            .route("/cgi/session/update", web::post().to(update))
            .route("/cgi/session/get", web::get().to(get));
    })
}

/// The app, its sessions, its database.
struct Shared {
    envelope: Envelope,
    id: AppId,
    buin: Buin,
    sessions: Mutex<HashMap<SessionId, Arc<Session>>>,
    database: PgConnectOptions,
}

/// The state of one thread.
struct Worker {
    app: Arc<Shared>,
    connection: tokio::sync::Mutex<Option<PgConnection>>,
}

#[derive(Deserialize)]
struct SealedBody<'a> {
    encrypt: &'a str,
}

#[derive(Deserialize)]
struct CreateBody {
    title: String,
    creator: String,
    member: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UpdateBody {
    session_id: String,
    op_user: String,
    add_member: Vec<String>,
    del_member: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GetQuery {
    session_id: String,
}

async fn create(worker: web::Data<Worker>, body: web::Bytes) -> actix_web::Result<HttpResponse> {
    worker.create(&body).await.map_err(ErrorInternalServerError)
}

async fn update(worker: web::Data<Worker>, body: web::Bytes) -> actix_web::Result<HttpResponse> {
    worker.update(&body).await.map_err(ErrorInternalServerError)
}

async fn get(
    worker: web::Data<Worker>,
    query: web::Query<GetQuery>,
) -> actix_web::Result<HttpResponse> {
    worker.get(&query.session_id).await.map_err(ErrorInternalServerError)
}

impl Worker {
    async fn create(&self, body: &[u8]) -> anyhow::Result<HttpResponse> {
        let body: CreateBody = serde_json::from_str(&self.open(body)?)?;
        let new = NewSession {
            title: Title::new(&body.title)?,
            creator: Account::new(&body.creator)?,
            members: accounts(&body.member)?,
            attributes: Attributes::default(),
            reason: None,
        };
        let at = Clock::system().now();
        let session = Session::create(new_id(at)?, self.app.buin, new, &RULES, at)?;
        let app_id = &self.app.id;
        let record =
            NewSessionRecord { session: &session, provenance: provenance(app_id, &session.owner) };
        let mut guard = self.connection.lock().await;
        sessions::insert(self.open_connection(&mut guard).await?, &[record], None).await?;
        Ok(self.store_and_respond(session))
    }

    async fn update(&self, body: &[u8]) -> anyhow::Result<HttpResponse> {
        let body: UpdateBody = serde_json::from_str(&self.open(body)?)?;
        let id: SessionId = body.session_id.parse()?;
        let before =
            self.sessions().get(&id).cloned().context("the session was not read before")?;
        let operator = Account::new(&body.op_user)?;
        let members =
            Update::for_members(accounts(&body.add_member)?, accounts(&body.del_member)?)?;
        let request = Request::for_member(operator.clone(), Action::Update(members));
        let change = before.decide(&request, &RULES, Clock::system().now())?;
        let change = change.context("nothing to change")?;
        let step =
            VersionedChange { change: &change, provenance: provenance(&self.app.id, &operator) };
        let change_set = ChangeSet { before: &before, steps: vec![step] };
        let mut guard = self.connection.lock().await;
        let connection = self.open_connection(&mut guard).await?;
        let written = sessions::update_if_version(connection, &[change_set], None).await?;
        anyhow::ensure!(written.len() == 1, "the session was changed concurrently");
        Ok(self.store_and_respond(change.after))
    }

    async fn get(&self, id: &str) -> anyhow::Result<HttpResponse> {
        let mut guard = self.connection.lock().await;
        let connection = self.open_connection(&mut guard).await?;
        let found = sessions::find(connection, &[id.parse()?]).await?.pop();
        let (_, session) = found.context("no such session")?;
        Ok(self.store_and_respond(session?))
    }

    fn open(&self, body: &[u8]) -> anyhow::Result<String> {
        let sealed: SealedBody<'_> = serde_json::from_slice(body)?;
        Ok(self.app.envelope.open(sealed.encrypt).text()?.to_owned())
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, Arc<Session>>> {
        self.app.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn open_connection<'a>(
        &self,
        connection: &'a mut Option<PgConnection>,
    ) -> anyhow::Result<&'a mut PgConnection> {
        if connection.is_none() {
            *connection = Some(PgConnection::connect_with(&self.app.database).await?);
        }
        connection.as_mut().context("no connection")
    }

    fn store_and_respond(&self, session: Session) -> HttpResponse {
        let members: Vec<&str> = session.members.iter().map(Account::as_str).collect();
        let message = json!({
            "sessionId": session.id.to_string(),
            "title": session.title.as_str(),
            "owner": session.owner.as_str(),
            "version": session.version.get(),
            "type": "multi",
            "member": members,
            "lastMsgId": 0,
            "activeTime": session.updated_at.timestamp(),
        });
        let message = message.to_string();
        self.sessions().insert(session.id, Arc::new(session));
        let mut body = String::with_capacity(64 + 2 * message.len());
        body.push_str("{\"errcode\":0,\"errmsg\":\"ok\",\"encrypt\":\"");
        self.app.envelope.seal_outgoing_into(&mut body, message.as_bytes());
        body.push_str("\"}");
        HttpResponse::Ok().content_type("application/json").body(body)
    }
}

fn accounts(texts: &[String]) -> anyhow::Result<Vec<Account>> {
    Ok(texts.iter().map(|text| Account::new(text)).collect::<Result<_, _>>()?)
}
