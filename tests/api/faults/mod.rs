//! Database faults under load: acknowledged changes are kept, reads show a true state, and the
//! service recovers by itself.
//!
//! Servers, PostgreSQL and callers are real. Each test causes faults of the database while [`load`]
//! runs. At the end [`stage::Stage::check`] compares the answers with the database.
//! `MUSTER_TEST_FAULTS=long` makes faults longer and more frequent.

#![expect(clippy::print_stdout, reason = "a failed test shows its measurements")]

mod load;
pub mod postgres;
mod stage;

use rustix::process::Signal;

use crate::harness::process::Home;
use postgres::SmallDisk;
use stage::{Database, Stage, fault_duration, repetitions};

#[tokio::test(flavor = "multi_thread")]
async fn service_recovers_after_postgresql_stops() {
    let mut stage = Stage::set(Database::External).await;
    for _ in 0..repetitions() {
        // A fast shutdown, then an immediate one.
        for signal in [Signal::INT, Signal::QUIT] {
            let postgres = stage.postgres.as_mut().unwrap();
            postgres.stop(signal);
            tokio::time::sleep(fault_duration()).await;
            postgres.start_again().await;
            stage.recovers(&format!("stopped by {signal:?}")).await;
        }
    }
    stage.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn service_recovers_after_postgresql_is_killed() {
    let mut stage = Stage::set(Database::External).await;
    for _ in 0..repetitions() {
        stage.home.kill_postgres();
        let postgres = stage.postgres.as_mut().unwrap();
        postgres.reap();
        tokio::time::sleep(fault_duration()).await;
        postgres.start_again().await;
        stage.recovers("killed").await;
    }
    stage.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn service_recovers_after_postgresql_hangs() {
    let stage = Stage::set(Database::External).await;
    for _ in 0..repetitions() {
        stage.freeze(2 * fault_duration()).await;
        stage.recovers("frozen").await;
    }
    stage.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn service_recovers_after_connections_break() {
    let stage = Stage::set(Database::BehindAProxy).await;
    for _ in 0..3 * repetitions() {
        stage.proxy.as_ref().unwrap().cut();
        stage.recovers("cut").await;
    }
    stage.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn service_recovers_after_connections_stall() {
    let stage = Stage::set(Database::BehindAProxy).await;
    for _ in 0..repetitions() {
        let proxy = stage.proxy.as_ref().unwrap();
        proxy.fall_silent();
        tokio::time::sleep(fault_duration()).await;
        proxy.speak_again();
        stage.recovers("silent").await;
    }
    stage.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn service_recovers_after_faults_of_embedded_postgresql() {
    let stage = Stage::set(Database::Embedded).await;
    for _ in 0..repetitions() {
        stage.home.kill_postgres();
        stage.recovers("killed").await;
        stage.freeze(2 * fault_duration()).await;
        stage.recovers("frozen").await;
        stage.home.signal_postgres(Signal::INT);
        stage.recovers("stopped").await;
    }
    stage.check().await;
}

/// The bytes by which the files of a home may grow: for each repetition, some seconds of load and
/// one WAL file.
fn spare() -> u64 {
    repetitions() as u64 * (24 << 20)
}

/// A home on a small disk, or `None` if this machine does not support one.
fn on_a_small_disk() -> Option<(Home, SmallDisk)> {
    let home = Home::lived_in();
    match SmallDisk::mount(&home.postgres(), spare()) {
        Ok(disk) => Some((home, disk)),
        Err(reason) => {
            println!("NOT DONE: no disk can be full here: {reason}");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn service_recovers_after_a_full_disk() {
    let alone = Stage::alone().await;
    let Some((home, disk)) = on_a_small_disk() else { return };
    let mut stage = Stage::set_in(Database::External, home, alone).await;
    for _ in 0..repetitions() {
        disk.fill();
        stage.wait_until_refused("No space left on device").await;
        disk.free();
        let postgres = stage.postgres.as_mut().unwrap();
        // PostgreSQL ends if the disk has no space for the WAL.
        if postgres.is_gone() {
            println!("PostgreSQL has ended");
            postgres.start_again().await;
        }
        stage.recovers("full").await;
    }
    stage.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn service_recovers_after_a_full_disk_of_embedded_postgresql() {
    let alone = Stage::alone().await;
    let Some((home, disk)) = on_a_small_disk() else { return };
    let stage = Stage::set_in(Database::Embedded, home, alone).await;
    for _ in 0..repetitions() {
        let postmaster = stage.home.postmaster();
        disk.fill();
        // PostgreSQL ends when the disk has no space for the next WAL file.
        stage.wait_until_out_of_space(postmaster.unwrap()).await;
        tokio::time::sleep(2 * fault_duration()).await;
        disk.free();
        stage.recovers("full, embedded").await;
    }
    stage.check().await;
}
