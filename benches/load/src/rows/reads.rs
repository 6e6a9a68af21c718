//! Reads from memory and from the database.

use std::process::Command;

use anyhow::Context as _;

use super::row::{CLIENTS, CONNECTIONS, Figures, Row, THREADS, values};
use crate::environment::Environment;
use crate::generator;
use crate::scripts::{BareReads, Gets};
use crate::seed::{Set, sets};
use crate::server::Server;

/// The number of sessions that are read from memory.
pub(super) const CACHED: u64 = 10_000;

#[derive(Default)]
pub(super) struct Cached {
    bare: Option<Server>,
    bare_scripts: Vec<BareReads>,
    scripts: Vec<Gets>,
}

impl Row for Cached {
    fn prepare(&mut self, env: &mut Environment) -> anyhow::Result<()> {
        let (number, count) = sets::READ;
        let set = env.set(number, count)?;
        let app = env.app.clone();
        let message = generator::call(env.port(), &app.envelope, &app.get(&set.id(0)))?;
        let text = message.to_string();
        let arguments = ["--key", &app.key, "--app-id", &app.id, "--message", &text];
        let bare = Server::start_role("bare", &env.work, &arguments)?;
        let gets = || Gets::for_set(&app, &set, CACHED, THREADS);
        self.scripts = gets();
        self.bare_scripts =
            gets().into_iter().map(|gets| BareReads::new(gets, message.clone())).collect();
        // All cached sessions are in memory afterwards.
        env.load(None, &mut self.scripts, CONNECTIONS / THREADS)?;
        compare_with_wrk(env, &bare, &mut self.bare_scripts, &app.get(&set.id(0)))?;
        self.bare = Some(bare);
        Ok(())
    }

    fn reference(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let bare = self.bare.as_ref();
        Ok(Figures::from_load(env.load(bare, &mut self.bare_scripts, CONNECTIONS / THREADS)?))
    }

    fn subject(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        Ok(Figures::from_load(env.load(None, &mut self.scripts, CONNECTIONS / THREADS)?))
    }
}

/// Notes the rates that another load generator gets from both sides, as an independent check.
fn compare_with_wrk(
    env: &mut Environment,
    bare: &Server,
    scripts: &mut [BareReads],
    request: &[u8],
) -> anyhow::Result<()> {
    let own_rate = env.load(Some(bare), scripts, CONNECTIONS / THREADS)?.0.rate;
    let path = String::from_utf8_lossy(request);
    let path = path.split(' ').nth(1).unwrap_or("/");
    let seconds = env.time.as_secs().max(1);
    let rates = (wrk(bare.port, path, seconds), wrk(env.port(), path, seconds));
    env.notes.push(match rates {
        (Some(bare), Some(muster)) => format!(
            "wrk gets {bare:.0} answers a second from the bare handler and {muster:.0} from Muster, always for \
             one session: {:.2}. This load generator gets {own_rate:.0} from the bare handler (one measurement each).",
            muster / bare
        ),
        _ => "wrk is not installed: the load generator was not compared with it.".to_owned(),
    });
    Ok(())
}

/// The answers per second that wrk gets with one request.
fn wrk(port: u16, path: &str, seconds: u64) -> Option<f64> {
    let output = Command::new("wrk")
        .args([format!("-t{THREADS}"), format!("-c{CONNECTIONS}"), format!("-d{seconds}")])
        .arg(format!("http://127.0.0.1:{port}{path}"))
        .output()
        .ok()?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    stdout.split_once("Requests/sec:")?.1.split_whitespace().next()?.parse().ok()
}

/// A server without a cache.
pub(super) fn start_uncached_server(env: &mut Environment) -> anyhow::Result<Server> {
    env.start_another_server(&[("MUSTER__CACHE__ENABLED", "false")])
}

#[derive(Default)]
pub(super) struct Cold {
    set: Option<Set>,
    server: Option<Server>,
    scripts: Vec<Gets>,
}

impl Row for Cold {
    fn prepare(&mut self, env: &mut Environment) -> anyhow::Result<()> {
        let (number, count) = sets::READ;
        let set = env.set(number, count)?;
        self.scripts = Gets::for_set(&env.app, &set, count, THREADS);
        self.server = Some(start_uncached_server(env)?);
        self.set = Some(set);
        Ok(())
    }

    fn reference(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let set = self.set.as_ref().context("not prepared")?;
        let mut values = values(env, &set.prefix);
        values.push(("count", set.count.to_string()));
        let (result, usage) = env.pgbench(&env.statements.get_script(), CLIENTS, &values)?;
        Ok(Figures::from_rate(result.rate, usage))
    }

    fn subject(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let server = self.server.as_ref();
        Ok(Figures::from_load(env.load(server, &mut self.scripts, CONNECTIONS / THREADS)?))
    }
}
