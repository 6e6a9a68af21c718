//! The cost of the feed for creates and updates, and the rate of a reader of a backlog.
//!
//! The reference of the costs is a server whose connections have the feed switched off. Its changes have
//! no row of `outbox` and get no number. Both servers run all the time, and one of them is idle.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::TryStreamExt as _;

use super::row::{CONNECTIONS, Figures, Row, THREADS};
use crate::environment::Environment;
use crate::generator::float;
use crate::http;
use crate::scripts::{Creates, Updates};
use crate::seed::sets;
use crate::server::Server;
use crate::usage::UsageMeter;

/// The largest number of changes in a page.
const PAGE: usize = 1_000;
/// The time that the changes of the preparation get until they have numbers.
const NUMBERING_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct FeedCreate {
    without_feed: Option<Server>,
    scripts: Vec<Creates>,
}

impl Row for FeedCreate {
    fn prepare(&mut self, env: &mut Environment) -> anyhow::Result<()> {
        self.without_feed = Some(start_server_without_feed(env)?);
        self.scripts = (0..THREADS).map(|_| Creates::new(&env.app, 5)).collect();
        Ok(())
    }

    fn reference(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let server = self.without_feed.as_ref();
        let before = count_numbered(env)?;
        let result = env.load(server, &mut self.scripts, CONNECTIONS / THREADS)?;
        without_numbers(env, before, Figures::from_load(result))
    }

    fn subject(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let before = count_numbered(env)?;
        let result = env.load(None, &mut self.scripts, CONNECTIONS / THREADS)?;
        with_numbers(env, before, Figures::from_load(result))
    }
}

#[derive(Default)]
pub(super) struct FeedUpdate {
    without_feed: Option<Server>,
    without: Vec<Updates>,
    with: Vec<Updates>,
}

impl Row for FeedUpdate {
    fn prepare(&mut self, env: &mut Environment) -> anyhow::Result<()> {
        self.without_feed = Some(start_server_without_feed(env)?);
        for (updates, (number, count)) in
            [(&mut self.with, sets::WITH_FEED), (&mut self.without, sets::WITHOUT_FEED)]
        {
            let set = env.set(number, count)?;
            *updates = Updates::for_set(&env.app, &set, THREADS, CONNECTIONS / THREADS);
        }
        Ok(())
    }

    fn reference(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let server = self.without_feed.as_ref();
        let before = count_numbered(env)?;
        let result = env.load(server, &mut self.without, CONNECTIONS / THREADS)?;
        without_numbers(env, before, Figures::from_load(result))
    }

    fn subject(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let before = count_numbered(env)?;
        let result = env.load(None, &mut self.with, CONNECTIONS / THREADS)?;
        with_numbers(env, before, Figures::from_load(result))
    }
}

/// Reads all changes of the enterprise from the beginning, page by page.
#[derive(Default)]
pub(super) struct CatchUp {
    authorization: String,
    changes: u64,
}

impl Row for CatchUp {
    fn prepare(&mut self, env: &mut Environment) -> anyhow::Result<()> {
        for (number, count) in [sets::READ, sets::WITH_FEED] {
            env.set(number, count)?;
        }
        self.authorization = create_key(env)?;
        // The first poll of the reference counts the changes.
        let sql = format!("select max(seq) from feed where buin = {}", env.app.buin);
        let deadline = Instant::now() + NUMBERING_TIMEOUT;
        while env.database.number("select count(*) from outbox")? > 0 {
            ensure!(Instant::now() < deadline, "changes of the preparation wait for their numbers");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.changes = env.database.number(&sql)?.try_into()?;
        env.vacuum()
    }

    fn reference(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let buin = env.app.buin;
        let copy = format!(
            "copy (select seq, session_id, version, event.kind, operator, event.app_id, reason, \
             created_at, changes, attributes from feed join session_event as event \
             using (session_id, version) where feed.buin = {buin} order by seq) to stdout"
        );
        let meter = UsageMeter::start(None, env.database.process);
        let (started_at, mut read) = (Instant::now(), 0);
        while started_at.elapsed() < env.time {
            let connection = &mut env.database.connection;
            env.database.runtime.block_on(async {
                let mut rows = connection.copy_out_raw(&copy).await?;
                while rows.try_next().await?.is_some() {}
                anyhow::Ok(())
            })?;
            read += self.changes;
        }
        Ok(Figures::from_rate(float(read) / started_at.elapsed().as_secs_f64(), meter.stop()))
    }

    fn subject(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let meter = UsageMeter::start(Some(env.process()), env.database.process);
        let mut stream = http::connect(env.port())?;
        let (started_at, mut read) = (Instant::now(), 0);
        let mut failure = None;
        let mut after = "0".to_owned();
        let mut of_round = 0;
        while started_at.elapsed() < env.time {
            let request = format!(
                "GET /v1/events?after={after}&limit={PAGE} HTTP/1.1\r\nHost: muster\r\n{}\r\n\r\n",
                self.authorization
            );
            let (status, body) = http::exchange(&mut stream, request.as_bytes())?;
            let body = String::from_utf8(body)?;
            ensure!(status == 200, "status {status}: {body}");
            let events = body.matches("\"prevSeq\":").count() as u64;
            (read, of_round) = (read + events, of_round + events);
            after = match events {
                0 => {
                    if of_round != self.changes {
                        failure = Some(format!("{of_round} of {} changes", self.changes));
                    }
                    of_round = 0;
                    "0".to_owned()
                }
                _ => next_cursor(&body).context("no nextCursor")?.to_owned(),
            };
        }
        let rate = float(read) / started_at.elapsed().as_secs_f64();
        let mut figures = Figures::from_rate(rate, meter.stop());
        if let Some(failure) = failure {
            figures.add_failure(failure);
        }
        Ok(figures)
    }
}

/// A new key of the app without callbacks, as the header of a request.
pub(super) fn create_key(env: &Environment) -> anyhow::Result<String> {
    let buin = env.app.buin.to_string();
    let create = ["key", "create", "--buin", &buin, "--app-id", &env.app.id];
    let created = env.run_command(&create)?;
    let key = created["key"].as_str().context("no key")?;
    Ok(format!("Authorization: Bearer {key}"))
}

/// The position after a page.
fn next_cursor(body: &str) -> Option<&str> {
    let (_, rest) = body.rsplit_once("\"nextCursor\":\"")?;
    Some(rest.split_once('"')?.0)
}

/// Another server on the same database, whose connections have the feed switched off.
fn start_server_without_feed(env: &Environment) -> anyhow::Result<Server> {
    let socket = env.work.join("data/postgres");
    let socket = socket.to_str().context("the path is not UTF-8")?;
    let url = format!("postgres://muster@localhost/muster?host={socket}&options[muster.feed]=off");
    env.start_another_server(&[("MUSTER__DATABASE__URL", &url)])
}

/// The changes that have a number.
fn count_numbered(env: &mut Environment) -> anyhow::Result<i64> {
    env.database.number("select coalesce(max(position), 0) from feed")
}

/// Checks that no change got a number during the reference.
fn without_numbers(
    env: &mut Environment,
    before: i64,
    mut figures: Figures,
) -> anyhow::Result<Figures> {
    let numbered = count_numbered(env)? - before;
    // The last changes of the subject before may have waited for their numbers.
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    if numbered as f64 > figures.rate / 10.0 {
        figures.add_failure(format!("{numbered} changes have a number though the feed is off"));
    }
    Ok(figures)
}

/// Checks that changes got numbers during the subject.
fn with_numbers(
    env: &mut Environment,
    before: i64,
    mut figures: Figures,
) -> anyhow::Result<Figures> {
    if count_numbered(env)? == before {
        figures.add_failure("no change has a number".to_owned());
    }
    Ok(figures)
}
