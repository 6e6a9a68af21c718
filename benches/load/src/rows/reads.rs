//! Reads from memory and from the database.

use std::process::Command;

use anyhow::Context as _;

use super::row::{CLIENTS, CONNECTIONS, Figures, Row, THREADS, values};
use crate::generator;
use crate::scripts::{Bare, Gets};
use crate::seed::{Set, sets};
use crate::server::Server;
use crate::stage::Stage;

/// The number of sessions that are read from memory.
pub(super) const CACHED: u64 = 10_000;

#[derive(Default)]
pub(super) struct Cached {
    bare: Option<Server>,
    asking_bare: Vec<Bare>,
    asking: Vec<Gets>,
}

impl Row for Cached {
    fn prepare(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        let (number, count) = sets::READ;
        let set = stage.set(number, count)?;
        let app = stage.app.clone();
        let message = generator::ask(stage.port(), &app.envelope, &app.get(&set.id(0)))?;
        let text = message.to_string();
        let arguments = ["--key", &app.key, "--app-id", &app.id, "--message", &text];
        let bare = Server::again("bare", &stage.work, &arguments)?;
        let gets = || Gets::of(&app, &set, CACHED, THREADS);
        self.asking = gets();
        self.asking_bare =
            gets().into_iter().map(|gets| Bare::new(gets, message.clone())).collect();
        // All cached sessions are in memory afterwards.
        stage.load(None, &mut self.asking, CONNECTIONS / THREADS)?;
        compare_with_wrk(stage, &bare, &mut self.asking_bare, &app.get(&set.id(0)))?;
        self.bare = Some(bare);
        Ok(())
    }

    fn reference(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        let bare = self.bare.as_ref();
        Ok(Figures::of_load(stage.load(bare, &mut self.asking_bare, CONNECTIONS / THREADS)?))
    }

    fn subject(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        Ok(Figures::of_load(stage.load(None, &mut self.asking, CONNECTIONS / THREADS)?))
    }
}

/// Notes the rates that another load generator gets from both sides, as an independent check.
fn compare_with_wrk(
    stage: &mut Stage,
    bare: &Server,
    asking: &mut [Bare],
    request: &[u8],
) -> anyhow::Result<()> {
    let ours = stage.load(Some(bare), asking, CONNECTIONS / THREADS)?.0.rate;
    let path = String::from_utf8_lossy(request);
    let path = path.split(' ').nth(1).unwrap_or("/");
    let seconds = stage.time.as_secs().max(1);
    let rates = (wrk(bare.port, path, seconds), wrk(stage.port(), path, seconds));
    stage.notes.push(match rates {
        (Some(bare), Some(muster)) => format!(
            "wrk gets {bare:.0} answers a second from the bare handler and {muster:.0} from Muster, always for \
             one session: {:.2}. This load generator gets {ours:.0} from the bare handler (one measurement each).",
            muster / bare
        ),
        _ => "wrk is not installed: the load generator was not compared with it.".to_owned(),
    });
    Ok(())
}

/// The answers per second that wrk gets with one request.
fn wrk(port: u16, path: &str, seconds: u64) -> Option<f64> {
    let done = Command::new("wrk")
        .args([format!("-t{THREADS}"), format!("-c{CONNECTIONS}"), format!("-d{seconds}")])
        .arg(format!("http://127.0.0.1:{port}{path}"))
        .output()
        .ok()?;
    let output = String::from_utf8_lossy(&done.stdout);
    output.split_once("Requests/sec:")?.1.split_whitespace().next()?.parse().ok()
}

/// A server without a cache.
pub(super) fn uncached(stage: &mut Stage) -> anyhow::Result<Server> {
    stage.another(&[("MUSTER__CACHE__ENABLED", "false")])
}

#[derive(Default)]
pub(super) struct Cold {
    set: Option<Set>,
    server: Option<Server>,
    asking: Vec<Gets>,
}

impl Row for Cold {
    fn prepare(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        let (number, count) = sets::READ;
        let set = stage.set(number, count)?;
        self.asking = Gets::of(&stage.app, &set, count, THREADS);
        self.server = Some(uncached(stage)?);
        self.set = Some(set);
        Ok(())
    }

    fn reference(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        let set = self.set.as_ref().context("not prepared")?;
        let mut values = values(stage, &set.prefix);
        values.push(("count", set.count.to_string()));
        let (done, usage) = stage.pgbench(&stage.statements.get_script(), CLIENTS, &values)?;
        Ok(Figures::of_rate(done.rate, usage))
    }

    fn subject(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        let server = self.server.as_ref();
        Ok(Figures::of_load(stage.load(server, &mut self.asking, CONNECTIONS / THREADS)?))
    }
}
