//! Reads beside ten thousand open connections, each idle after one request.

use std::net::TcpStream;

use anyhow::ensure;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::row::{CONNECTIONS, Figures, Row, THREADS};
use crate::environment::Environment;
use crate::http;
use crate::scripts::Gets;
use crate::seed::sets;

/// The number of idle connections.
const IDLE: usize = 10_000;

#[derive(Default)]
pub(super) struct IdleConnections {
    scripts: Vec<Gets>,
}

impl Row for IdleConnections {
    fn prepare(&mut self, env: &mut Environment) -> anyhow::Result<()> {
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
        let (number, count) = sets::READ;
        let set = env.set(number, count)?;
        self.scripts = Gets::for_set(&env.app, &set, 10_000, THREADS);
        // All cached sessions are in memory afterwards.
        env.load(None, &mut self.scripts, CONNECTIONS / THREADS)?;
        Ok(())
    }

    fn reference(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let figures =
            Figures::from_load(env.load(None, &mut self.scripts, CONNECTIONS / THREADS)?);
        env.notes.push(format_note("without", &figures));
        Ok(figures)
    }

    fn subject(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let port = env.port();
        let mut idle = (0..IDLE).map(|_| connect_and_check(port)).collect::<Result<Vec<_>, _>>()?;
        let figures =
            Figures::from_load(env.load(None, &mut self.scripts, CONNECTIONS / THREADS)?);
        // The connections must have stayed open.
        for stream in &mut idle {
            check_health(stream)?;
        }
        env.notes.push(format_note("beside 10,000 idle connections", &figures));
        Ok(figures)
    }
}

fn format_note(setup: &str, figures: &Figures) -> String {
    format!(
        "get_idle {setup}: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms, server {:.0} MiB resident.",
        figures.rate,
        figures.latencies.percentile(50),
        figures.latencies.percentile(99),
        figures.usage.server_mib,
    )
}

/// A connection that has served one request.
fn connect_and_check(port: u16) -> anyhow::Result<TcpStream> {
    let mut stream = http::connect(port)?;
    check_health(&mut stream)?;
    Ok(stream)
}

fn check_health(stream: &mut TcpStream) -> anyhow::Result<()> {
    let (status, body) = http::exchange(stream, &http::get("/healthz"))?;
    ensure!(status == 200, "an idle connection: {status} {}", String::from_utf8_lossy(&body));
    Ok(())
}
