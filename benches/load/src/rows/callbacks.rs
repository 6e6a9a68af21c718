//! Callbacks: how fast they are told, and what they cost those who write.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::row::{CLIENTS, CONNECTIONS, Figures, Row, THREADS, prefix_of_now};
use crate::generator::float;
use crate::pgbench::Clients;
use crate::poster;
use crate::scripts::Creates;
use crate::stage::Stage;
use crate::told::Told;
use crate::usage::Before;

/// How long deliveries may take to begin, or to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at the receiver's count.
const LOOK: Duration = Duration::from_millis(10);
/// How much more waits than the reference could send in the time.
const SPARE: f64 = 1.25;

pub(super) struct Delivered {
    reference: Loop,
    at_once: usize,
    backlog: f64,
}

/// How the reference sends.
enum Loop {
    /// One after the other.
    Bare,
    /// As many at once as Muster.
    AtOnce,
}

impl Delivered {
    pub(super) const BARE: Self = Self { reference: Loop::Bare, at_once: 1, backlog: 0.0 };
    pub(super) const AT_ONCE: Self = Self { reference: Loop::AtOnce, at_once: 1, backlog: 0.0 };
}

impl Row for Delivered {
    fn prepare(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        if let Loop::AtOnce = self.reference {
            let at_once = stage.setting("max_concurrency_per_app = ")?;
            self.at_once = at_once.context("no delivery.max_concurrency_per_app")?.parse()?;
        }
        stage.told()?;
        // The reference needs callbacks to send.
        let made = tell(stage, 320)?;
        wait_for(stage.told()?, made)?;
        Ok(())
    }

    fn reference(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        let time = stage.time;
        let told = stage.told()?;
        let rate = poster::post(told.receiver.port, &told.kept()?, self.at_once, time)?;
        self.backlog = rate * time.as_secs_f64() * SPARE;
        Ok(Figures { rate, ..Figures::default() })
    }

    fn subject(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        let app = stage.told()?.app.clone();
        let buin = app.buin.to_string();
        let which = ["--buin", &buin, "--app-id", &app.id];
        stage.administer(&[&["app", "pause-callbacks"], &which[..]].concat())?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let backlog = tell(stage, self.backlog as u64)?;
        // Autovacuum would have been there while a backlog grew as it does in life.
        stage.vacuum()?;
        stage.calm()?;
        let (time, server, database) = (stage.time, stage.process(), stage.database.process);
        let before = stage.told()?.count()?;
        stage.administer(&[&["app", "resume-callbacks"], &which[..]].concat())?;
        let told = stage.told()?;
        let first = wait_for(told, before + 1)?;
        let (began, usage) = (Instant::now(), Before::now(Some(server), database));
        let mut now = first;
        while began.elapsed() < time && now < before + backlog {
            std::thread::sleep(LOOK);
            now = told.count()?;
        }
        let rate = float(now - first) / began.elapsed().as_secs_f64();
        let figures = Figures::of_rate(rate, usage.until_now());
        forget(stage)?;
        Ok(figures)
    }
}

#[derive(Default)]
pub(super) struct Subscribed {
    without: Vec<Creates>,
    with: Vec<Creates>,
}

impl Row for Subscribed {
    fn prepare(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        let app = stage.told()?.app.clone();
        self.without = (0..THREADS).map(|_| Creates::new(&stage.app, 5)).collect();
        self.with = (0..THREADS).map(|_| Creates::new(&app, 5)).collect();
        Ok(())
    }

    fn reference(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        Ok(Figures::of_load(stage.load(None, &mut self.without, CONNECTIONS / THREADS)?))
    }

    fn subject(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        let envelope = stage.told()?.app.envelope.clone();
        let before = stage.told()?.count()?;
        let seen = stage.load_as(&envelope, None, &mut self.with, CONNECTIONS / THREADS)?;
        let mut figures = Figures::of_load(seen);
        if stage.told()?.count()? == before {
            figures.wrong("no callback came while sessions were created".to_owned());
        }
        forget(stage)?;
        Ok(figures)
    }
}

/// Makes callbacks: creates sessions that the subscriber is told of. Gives how many.
fn tell(stage: &mut Stage, number: u64) -> anyhow::Result<u64> {
    let app = stage.told()?.app.clone();
    let values = [("prefix", prefix_of_now()), ("buin", app.buin.to_string()), ("app", app.id)];
    let clients = Clients::Each { number: CLIENTS, transactions: number.div_ceil(CLIENTS) };
    Ok(stage.prepare(&stage.statements.create_script(), clients, &values)?.transactions)
}

fn wait_for(told: &Told, count: u64) -> anyhow::Result<u64> {
    let began = Instant::now();
    loop {
        let now = told.count()?;
        if now >= count {
            return Ok(now);
        }
        ensure!(began.elapsed() < PATIENCE, "{now} callbacks came, {count} should have");
        std::thread::sleep(LOOK);
    }
}

/// Throws away what still waits, so that it does not disturb what is measured next, and lets those
/// that are under way end.
fn forget(stage: &mut Stage) -> anyhow::Result<()> {
    stage.database.run("truncate delivery, delivery_attempt")?;
    let told = stage.told()?;
    let mut before = told.count()?;
    loop {
        std::thread::sleep(10 * LOOK);
        let now = told.count()?;
        if now == before {
            return Ok(());
        }
        before = now;
    }
}
