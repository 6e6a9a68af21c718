//! Callbacks: their rate, and their cost for creates.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::row::{CLIENTS, CONNECTIONS, Figures, Row, THREADS, prefix_of_now};
use crate::generator::float;
use crate::pgbench::Clients;
use crate::poster;
use crate::scripts::Creates;
use crate::stage::Stage;
use crate::subscriber::Subscriber;
use crate::usage::Before;

/// The time that deliveries get to begin, or to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// The interval between two reads of the receiver's count.
const LOOK: Duration = Duration::from_millis(10);
/// The backlog, relative to the callbacks that the reference could send in the time.
const SPARE: f64 = 1.25;

pub(super) struct Delivered {
    reference: Loop,
    at_once: usize,
    backlog: f64,
}

/// The concurrency of the reference.
enum Loop {
    /// One callback at a time.
    Bare,
    /// As many callbacks at once as Muster.
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
        stage.subscriber()?;
        // The reference needs callbacks to send.
        let made = tell(stage, 320)?;
        wait_for(stage.subscriber()?, made)?;
        Ok(())
    }

    fn reference(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        let time = stage.time;
        let subscriber = stage.subscriber()?;
        let rate = poster::post(subscriber.receiver.port, &subscriber.kept()?, self.at_once, time)?;
        self.backlog = rate * time.as_secs_f64() * SPARE;
        Ok(Figures { rate, ..Figures::default() })
    }

    fn subject(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        let app = stage.subscriber()?.app.clone();
        let buin = app.buin.to_string();
        let which = ["--buin", &buin, "--app-id", &app.id];
        stage.administer(&[&["app", "pause-callbacks"], &which[..]].concat())?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let backlog = tell(stage, self.backlog as u64)?;
        // Autovacuum would run while a backlog grows in production.
        stage.vacuum()?;
        stage.calm()?;
        let (time, server, database) = (stage.time, stage.process(), stage.database.process);
        let before = stage.subscriber()?.count()?;
        stage.administer(&[&["app", "resume-callbacks"], &which[..]].concat())?;
        let subscriber = stage.subscriber()?;
        let first = wait_for(subscriber, before + 1)?;
        let (began, usage) = (Instant::now(), Before::now(Some(server), database));
        let mut now = first;
        while began.elapsed() < time && now < before + backlog {
            std::thread::sleep(LOOK);
            now = subscriber.count()?;
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
        let app = stage.subscriber()?.app.clone();
        self.without = (0..THREADS).map(|_| Creates::new(&stage.app, 5)).collect();
        self.with = (0..THREADS).map(|_| Creates::new(&app, 5)).collect();
        Ok(())
    }

    fn reference(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        Ok(Figures::of_load(stage.load(None, &mut self.without, CONNECTIONS / THREADS)?))
    }

    fn subject(&mut self, stage: &mut Stage) -> anyhow::Result<Figures> {
        let envelope = stage.subscriber()?.app.envelope.clone();
        let before = stage.subscriber()?.count()?;
        let seen = stage.load_as(&envelope, None, &mut self.with, CONNECTIONS / THREADS)?;
        let mut figures = Figures::of_load(seen);
        if stage.subscriber()?.count()? == before {
            figures.wrong("no callback came while sessions were created".to_owned());
        }
        forget(stage)?;
        Ok(figures)
    }
}

/// Creates sessions, so that the app gets callbacks. Returns their number.
fn tell(stage: &mut Stage, number: u64) -> anyhow::Result<u64> {
    let app = stage.subscriber()?.app.clone();
    let values = [("prefix", prefix_of_now()), ("buin", app.buin.to_string()), ("app", app.id)];
    let clients = Clients::Each { number: CLIENTS, transactions: number.div_ceil(CLIENTS) };
    Ok(stage.prepare(&stage.statements.create_script(), clients, &values)?.transactions)
}

fn wait_for(subscriber: &Subscriber, count: u64) -> anyhow::Result<u64> {
    let began = Instant::now();
    loop {
        let now = subscriber.count()?;
        if now >= count {
            return Ok(now);
        }
        ensure!(began.elapsed() < PATIENCE, "{now} callbacks came, {count} were expected");
        std::thread::sleep(LOOK);
    }
}

/// Deletes waiting deliveries, so that they do not disturb the next measurement, and waits for the
/// end of deliveries in flight.
fn forget(stage: &mut Stage) -> anyhow::Result<()> {
    stage.database.run("truncate delivery, delivery_attempt")?;
    let subscriber = stage.subscriber()?;
    let mut before = subscriber.count()?;
    loop {
        std::thread::sleep(10 * LOOK);
        let now = subscriber.count()?;
        if now == before {
            return Ok(());
        }
        before = now;
    }
}
