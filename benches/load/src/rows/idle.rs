//! Reads beside ten thousand open connections, each idle after one request.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::ensure;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::row::{CONNECTIONS, Figures, Row, THREADS};
use crate::http;
use crate::scripts::Gets;
use crate::seed::sets;
use crate::stage::Stage;

/// The number of idle connections.
const IDLE: usize = 10_000;

#[derive(Default)]
pub(super) struct Beside {
    asking: Vec<Gets>,
}

impl Row for Beside {
    fn prepare(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
        let (number, count) = sets::READ;
        let set = stage.set(number, count)?;
        self.asking = Gets::of(&stage.app, &set, 10_000, THREADS);
        // All cached sessions are in memory afterwards.
        stage.load(None, &mut self.asking, CONNECTIONS / THREADS)?;
        Ok(())
    }

    fn reference(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        let figures =
            Figures::of_load(stage.load(None, &mut self.asking, CONNECTIONS / THREADS)?);
        stage.notes.push(note("without", &figures));
        Ok(figures)
    }

    fn subject(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        let mut idle = (0..IDLE).map(|_| used(stage.port())).collect::<Result<Vec<_>, _>>()?;
        let figures =
            Figures::of_load(stage.load(None, &mut self.asking, CONNECTIONS / THREADS)?);
        // The connections must have stayed open.
        for stream in &mut idle {
            ask(stream)?;
        }
        stage.notes.push(note("beside 10,000 idle connections", &figures));
        Ok(figures)
    }
}

fn note(how: &str, figures: &Figures) -> String {
    format!(
        "get_idle {how}: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms, server {:.0} MiB resident.",
        figures.rate,
        figures.latencies.percentile(50),
        figures.latencies.percentile(99),
        figures.usage.server_mib,
    )
}

/// A connection that has served one request.
fn used(port: u16) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    ask(&mut stream)?;
    Ok(stream)
}

fn ask(stream: &mut TcpStream) -> anyhow::Result<()> {
    stream.write_all(&http::get("/healthz"))?;
    let mut bytes = Vec::new();
    loop {
        if let Some(answer) = http::parse(&bytes).map_err(anyhow::Error::msg)? {
            ensure!(answer.ok, "{}", String::from_utf8_lossy(&bytes));
            return Ok(());
        }
        let mut chunk = [0; 1_024];
        let read = stream.read(&mut chunk)?;
        ensure!(read > 0, "an idle connection was closed");
        bytes.extend_from_slice(&chunk[..read]);
    }
}
