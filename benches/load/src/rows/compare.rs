//! Comparisons of a copy with the sessions.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use serde_json::json;
use sqlx::Row as _;
use uuid::Uuid;

use super::row::{Figures, Row};
use crate::environment::Environment;
use crate::generator::float;
use crate::seed::sets;
use crate::usage::UsageMeter;

/// How often a request names each session.
const REPETITIONS: u64 = 4;
/// One in so many pairs has another version than its session.
const DIFFERING: u64 = 1_000;
/// The number of ids in a statement of the reference.
const STATEMENT: usize = 2_000;

/// The request of a comparison, and the pairs in it.
#[derive(Default)]
pub(super) struct Compare {
    request: Vec<u8>,
    pairs: Vec<(Uuid, i64)>,
    differing: u64,
}

impl Row for Compare {
    fn prepare(&mut self, env: &mut Environment) -> anyhow::Result<()> {
        let (number, count) = sets::READ;
        let set = env.set(number, count)?;
        let buin = env.app.buin.to_string();
        let create = ["key", "create", "--buin", &buin, "--app-id", &env.app.id];
        let created = env.run_command(&create)?;
        let key = created["key"].as_str().context("no key")?;
        let mut body = String::new();
        for n in 0..REPETITIONS * set.count {
            let version = if n % DIFFERING == 0 { 2 } else { 1 };
            let id = set.id(n % set.count);
            self.pairs.push((id.parse()?, version));
            self.differing += u64::from(version == 2);
            body.push_str(&json!({ "sessionId": id, "version": version }).to_string());
            body.push('\n');
        }
        let head = format!(
            "POST /v1/sessions/compare HTTP/1.1\r\nHost: muster\r\nAuthorization: Bearer {key}\r\n\
             Content-Type: application/x-ndjson\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        self.request = [head.into_bytes(), body.into_bytes()].concat();
        Ok(())
    }

    fn reference(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let meter = UsageMeter::start(None, env.database.process);
        let (started_at, mut compared) = (Instant::now(), 0);
        while started_at.elapsed() < env.time {
            let differing = self.compare_in_sql(env)?;
            ensure!(differing == self.differing, "{differing} pairs differ");
            compared += self.pairs.len() as u64;
        }
        Ok(Figures::from_rate(float(compared) / started_at.elapsed().as_secs_f64(), meter.stop()))
    }

    fn subject(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let meter = UsageMeter::start(Some(env.process()), env.database.process);
        let (started_at, mut compared) = (Instant::now(), 0);
        let mut failure = None;
        while started_at.elapsed() < env.time {
            let response = exchange(env.port(), &self.request)?;
            let summary = json!({ "compared": self.pairs.len(), "differing": self.differing });
            if !response.contains(&summary.to_string()) {
                let end: String = response.chars().rev().take(200).collect();
                failure = Some(end.chars().rev().collect());
            }
            compared += self.pairs.len() as u64;
        }
        let rate = float(compared) / started_at.elapsed().as_secs_f64();
        let mut figures = Figures::from_rate(rate, meter.stop());
        if let Some(failure) = failure {
            figures.add_failure(failure);
        }
        Ok(figures)
    }
}

impl Compare {
    /// Looks up the versions of all pairs, and returns the number of those that differ.
    fn compare_in_sql(&self, env: &mut Environment) -> anyhow::Result<u64> {
        let buin = env.app.buin;
        let connection = &mut env.database.connection;
        env.database.runtime.block_on(async {
            let mut differing = 0;
            for part in self.pairs.chunks(STATEMENT) {
                let (ids, versions): (Vec<Uuid>, Vec<i64>) = part.iter().copied().unzip();
                let sql = "select count(*) from unnest($1::uuid[], $2::bigint[]) as item (id, known) \
                           left join session on session_id = id and buin = $3 \
                           where version is distinct from known";
                let query = sqlx::query(sql).bind(&ids).bind(&versions).bind(buin);
                let count: i64 = query.fetch_one(&mut *connection).await?.try_get(0)?;
                differing += u64::try_from(count)?;
            }
            Ok(differing)
        })
    }
}

/// Sends a request on a new connection, and returns the whole response. The client reads while it sends.
fn exchange(port: u16, request: &[u8]) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let mut sender = stream.try_clone()?;
    let mut response = Vec::new();
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || sender.write_all(request));
        stream.read_to_end(&mut response)?;
        sending.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        anyhow::Ok(())
    })?;
    Ok(String::from_utf8(response)?)
}
