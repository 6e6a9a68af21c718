//! Callbacks: their rate, and their cost for creates.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::row::{CLIENTS, CONNECTIONS, Figures, Row, THREADS, current_id_prefix};
use crate::environment::Environment;
use crate::generator::float;
use crate::pgbench::Clients;
use crate::poster;
use crate::scripts::Creates;
use crate::subscriber::Subscriber;
use crate::usage::UsageMeter;

/// The time that deliveries get to begin, or to end.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);
/// The interval between two reads of the receiver's count.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// The backlog, relative to the callbacks that the reference could send in the time.
const BACKLOG_FACTOR: f64 = 1.25;

pub(super) struct DeliveryRate {
    reference: ReferenceLoops,
    concurrency: usize,
    backlog: f64,
}

/// The concurrency of the reference.
enum ReferenceLoops {
    /// One callback at a time.
    One,
    /// As many callbacks at the same time as Muster sends.
    LikeMuster,
}

impl DeliveryRate {
    pub(super) const SEQUENTIAL: Self =
        Self { reference: ReferenceLoops::One, concurrency: 1, backlog: 0.0 };
    pub(super) const CONCURRENT: Self =
        Self { reference: ReferenceLoops::LikeMuster, concurrency: 1, backlog: 0.0 };
}

impl Row for DeliveryRate {
    fn prepare(&mut self, env: &mut Environment) -> anyhow::Result<()> {
        if let ReferenceLoops::LikeMuster = self.reference {
            let setting = env.setting("max_concurrency_per_app = ")?;
            self.concurrency = setting.context("no delivery.max_concurrency_per_app")?.parse()?;
        }
        env.subscriber()?;
        // The reference needs callbacks to send.
        let created = create_sessions(env, 320)?;
        wait_for_callbacks(env.subscriber()?, created)?;
        Ok(())
    }

    fn reference(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let time = env.time;
        let subscriber = env.subscriber()?;
        let (port, callbacks) = (subscriber.receiver.port, subscriber.recorded()?);
        let rate = poster::post(port, &callbacks, self.concurrency, time)?;
        self.backlog = rate * time.as_secs_f64() * BACKLOG_FACTOR;
        Ok(Figures { rate, ..Figures::default() })
    }

    fn subject(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let app = env.subscriber()?.app.clone();
        let buin = app.buin.to_string();
        let app_options = ["--buin", &buin, "--app-id", &app.id];
        env.run_command(&[&["app", "pause-callbacks"], &app_options[..]].concat())?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let backlog = create_sessions(env, self.backlog as u64)?;
        // Autovacuum would run while a backlog grows in production.
        env.vacuum()?;
        env.checkpoint()?;
        let (time, server, database) = (env.time, env.process(), env.database.process);
        let before = env.subscriber()?.count()?;
        env.run_command(&[&["app", "resume-callbacks"], &app_options[..]].concat())?;
        let subscriber = env.subscriber()?;
        let first = wait_for_callbacks(subscriber, before + 1)?;
        let (started_at, meter) = (Instant::now(), UsageMeter::start(Some(server), database));
        let mut now = first;
        while started_at.elapsed() < time && now < before + backlog {
            std::thread::sleep(POLL_INTERVAL);
            now = subscriber.count()?;
        }
        let rate = float(now - first) / started_at.elapsed().as_secs_f64();
        let figures = Figures::from_rate(rate, meter.stop());
        discard_deliveries(env)?;
        Ok(figures)
    }
}

#[derive(Default)]
pub(super) struct CreateWithSubscriber {
    without: Vec<Creates>,
    with: Vec<Creates>,
}

impl Row for CreateWithSubscriber {
    fn prepare(&mut self, env: &mut Environment) -> anyhow::Result<()> {
        let app = env.subscriber()?.app.clone();
        self.without = (0..THREADS).map(|_| Creates::new(&env.app, 5)).collect();
        self.with = (0..THREADS).map(|_| Creates::new(&app, 5)).collect();
        Ok(())
    }

    fn reference(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        Ok(Figures::from_load(env.load(None, &mut self.without, CONNECTIONS / THREADS)?))
    }

    fn subject(&mut self, env: &mut Environment) -> anyhow::Result<Figures> {
        let envelope = env.subscriber()?.app.envelope.clone();
        let before = env.subscriber()?.count()?;
        let result = env.load_as(&envelope, None, &mut self.with, CONNECTIONS / THREADS)?;
        let mut figures = Figures::from_load(result);
        if env.subscriber()?.count()? == before {
            figures.add_failure("no callback came while sessions were created".to_owned());
        }
        discard_deliveries(env)?;
        Ok(figures)
    }
}

/// Creates sessions, so that the app gets callbacks. Returns their number.
fn create_sessions(env: &mut Environment, number: u64) -> anyhow::Result<u64> {
    let app = env.subscriber()?.app.clone();
    let values = [("prefix", current_id_prefix()), ("buin", app.buin.to_string()), ("app", app.id)];
    let clients = Clients::Each { number: CLIENTS, transactions: number.div_ceil(CLIENTS) };
    Ok(env.prepare(&env.statements.create_script(), clients, &values)?.transactions)
}

fn wait_for_callbacks(subscriber: &Subscriber, count: u64) -> anyhow::Result<u64> {
    let started_at = Instant::now();
    loop {
        let now = subscriber.count()?;
        if now >= count {
            return Ok(now);
        }
        ensure!(
            started_at.elapsed() < DELIVERY_TIMEOUT,
            "{now} callbacks came, {count} were expected"
        );
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Deletes waiting deliveries, so that they do not disturb the next measurement, and waits for the
/// end of deliveries in flight.
fn discard_deliveries(env: &mut Environment) -> anyhow::Result<()> {
    env.database.run("truncate delivery, delivery_attempt")?;
    let subscriber = env.subscriber()?;
    let mut before = subscriber.count()?;
    loop {
        std::thread::sleep(10 * POLL_INTERVAL);
        let now = subscriber.count()?;
        if now == before {
            return Ok(());
        }
        before = now;
    }
}
