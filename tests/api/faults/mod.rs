//! Faults below a load: what was acknowledged is kept, what is shown is true, and the service comes
//! back by itself.
//!
//! Real servers, a real PostgreSQL, real callers. Each test does one thing to the database while
//! [`load`] goes on, and [`stage::Stage::check`] compares at the end what was told with what is.
//! `MUSTER_TEST_FAULTS=long` makes faults last longer and come more often.

#![expect(clippy::print_stdout, reason = "what was measured is told where a test fails")]

mod load;
mod postgres;
mod stage;

use rustix::process::Signal;

use crate::harness::process::Home;
use postgres::SmallDisk;
use stage::{Database, Stage, lasting, times};

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_is_stopped() {
    let mut stage = Stage::set(Database::External).await;
    for _ in 0..times() {
        // Fast, and immediate.
        for signal in [Signal::INT, Signal::QUIT] {
            let postgres = stage.postgres.as_mut().unwrap();
            postgres.stop(signal);
            tokio::time::sleep(lasting()).await;
            postgres.start_again().await;
            stage.recovers(&format!("stopped by {signal:?}")).await;
        }
    }
    stage.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_is_killed() {
    let mut stage = Stage::set(Database::External).await;
    for _ in 0..times() {
        stage.home.kill_postgres();
        let postgres = stage.postgres.as_mut().unwrap();
        postgres.bury();
        tokio::time::sleep(lasting()).await;
        postgres.start_again().await;
        stage.recovers("killed").await;
    }
    stage.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_hangs() {
    let stage = Stage::set(Database::External).await;
    for _ in 0..times() {
        stage.freeze(2 * lasting()).await;
        stage.recovers("frozen").await;
    }
    stage.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_break() {
    let stage = Stage::set(Database::BehindAProxy).await;
    for _ in 0..3 * times() {
        stage.proxy.as_ref().unwrap().cut();
        stage.recovers("cut").await;
    }
    stage.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_stall() {
    let stage = Stage::set(Database::BehindAProxy).await;
    for _ in 0..times() {
        let proxy = stage.proxy.as_ref().unwrap();
        proxy.fall_silent();
        tokio::time::sleep(lasting()).await;
        proxy.speak_again();
        stage.recovers("silent").await;
    }
    stage.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_postgresql_dies_stops_and_hangs() {
    let stage = Stage::set(Database::Embedded).await;
    for _ in 0..times() {
        stage.home.kill_postgres();
        stage.recovers("killed").await;
        stage.freeze(2 * lasting()).await;
        stage.recovers("frozen").await;
        stage.home.signal_postgres(Signal::INT);
        stage.recovers("stopped").await;
    }
    stage.check().await;
}

/// What the files of a home may grow by: each time some seconds of the load, and a file of WAL.
fn spare() -> u64 {
    times() as u64 * (24 << 20)
}

/// A home on a small disk, or why there is none.
fn on_a_small_disk() -> Option<(Home, SmallDisk)> {
    let home = Home::lived_in();
    match SmallDisk::under(&home.postgres(), spare()) {
        Ok(disk) => Some((home, disk)),
        Err(why) => {
            println!("NOT DONE: no disk can be full here: {why}");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_is_full() {
    let alone = Stage::alone().await;
    let Some((home, disk)) = on_a_small_disk() else { return };
    let mut stage = Stage::set_in(Database::External, home, alone).await;
    for _ in 0..times() {
        disk.fill();
        stage.is_refused("No space left on device").await;
        disk.free();
        let postgres = stage.postgres.as_mut().unwrap();
        // Where even the log of changes has no room, PostgreSQL ends.
        if postgres.is_gone() {
            println!("PostgreSQL has ended");
            postgres.start_again().await;
        }
        stage.recovers("full").await;
    }
    stage.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_of_the_embedded_postgresql_is_full() {
    let alone = Stage::alone().await;
    let Some((home, disk)) = on_a_small_disk() else { return };
    let stage = Stage::set_in(Database::Embedded, home, alone).await;
    for _ in 0..times() {
        let postmaster = stage.home.postmaster();
        disk.fill();
        // Until there is no room for the next file of WAL, and PostgreSQL ends.
        stage.ends_for_want_of_room(postmaster.unwrap()).await;
        tokio::time::sleep(2 * lasting()).await;
        disk.free();
        stage.recovers("full, embedded").await;
    }
    stage.check().await;
}
