//! Database faults under load: acknowledged changes are kept, reads show a true state, and the
//! service recovers by itself.
//!
//! Servers, PostgreSQL and clients are real. Each test causes faults of the database while [`load`]
//! runs. At the end [`system::System::check_promises`] compares the answers with the database.
//! `MUSTER_TEST_FAULTS=long` makes faults longer and more frequent.

#![expect(clippy::print_stdout, reason = "a failed test shows its measurements")]

mod failover;
mod following;
mod kills;
mod load;
pub mod postgres;
pub mod proxies;
mod restarts;
mod system;
mod writers;

use rustix::process::Signal;

use crate::harness::process::Home;
pub use kills::seed;
use postgres::SmallDisk;
pub use system::is_long;
use system::{Database, System, fault_duration, repetitions};

#[tokio::test(flavor = "multi_thread")]
async fn service_recovers_after_postgresql_stops() {
    let mut system = System::start(Database::External).await;
    for _ in 0..repetitions() {
        // A fast shutdown, then an immediate one.
        for signal in [Signal::INT, Signal::QUIT] {
            let postgres = system.postgres.as_mut().unwrap();
            postgres.stop(signal);
            tokio::time::sleep(fault_duration()).await;
            postgres.start_again().await;
            system.assert_recovers(&format!("stopped by {signal:?}")).await;
        }
    }
    system.check_promises().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn service_recovers_after_postgresql_is_killed() {
    let mut system = System::start(Database::External).await;
    for _ in 0..repetitions() {
        system.home.kill_postgres();
        let postgres = system.postgres.as_mut().unwrap();
        postgres.reap();
        tokio::time::sleep(fault_duration()).await;
        postgres.start_again().await;
        system.assert_recovers("killed").await;
    }
    system.check_promises().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn service_recovers_after_postgresql_hangs() {
    let system = System::start(Database::External).await;
    for _ in 0..repetitions() {
        system.freeze(2 * fault_duration()).await;
        system.assert_recovers("frozen").await;
    }
    system.check_promises().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn service_recovers_after_connections_break() {
    let system = System::start(Database::BehindProxy).await;
    for _ in 0..3 * repetitions() {
        system.proxy.as_ref().unwrap().break_connections();
        system.assert_recovers("cut").await;
    }
    system.check_promises().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn service_recovers_after_connections_stall() {
    let system = System::start(Database::BehindProxy).await;
    for _ in 0..repetitions() {
        let proxy = system.proxy.as_ref().unwrap();
        proxy.stall();
        tokio::time::sleep(fault_duration()).await;
        proxy.resume();
        system.assert_recovers("silent").await;
    }
    system.check_promises().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn service_recovers_after_faults_of_embedded_postgresql() {
    let system = System::start(Database::Embedded).await;
    for _ in 0..repetitions() {
        system.home.kill_postgres();
        system.assert_recovers("killed").await;
        system.freeze(2 * fault_duration()).await;
        system.assert_recovers("frozen").await;
        system.home.signal_postgres(Signal::INT);
        system.assert_recovers("stopped").await;
    }
    system.check_promises().await;
}

/// The bytes by which the files of a home may grow: for each repetition, some seconds of load and
/// one WAL file.
fn disk_headroom() -> u64 {
    repetitions() as u64 * (24 << 20)
}

/// A home on a small disk, or `None` if this machine does not support one.
fn on_a_small_disk() -> Option<(Home, SmallDisk)> {
    let home = Home::with_database();
    match SmallDisk::mount(&home.postgres(), disk_headroom()) {
        Ok(disk) => Some((home, disk)),
        Err(reason) => {
            println!("SKIPPED: this machine cannot mount a small disk: {reason}");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn service_recovers_after_a_full_disk() {
    let exclusive = System::lock_fault_tests().await;
    let Some((home, disk)) = on_a_small_disk() else { return };
    let mut system = System::start_in(Database::External, home, exclusive).await;
    for _ in 0..repetitions() {
        disk.fill();
        system.wait_until_refused("No space left on device").await;
        disk.free();
        let postgres = system.postgres.as_mut().unwrap();
        // PostgreSQL ends if the disk has no space for the WAL.
        if postgres.has_ended() {
            println!("PostgreSQL has ended");
            postgres.start_again().await;
        }
        system.assert_recovers("full").await;
    }
    system.check_promises().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn service_recovers_after_a_full_disk_of_embedded_postgresql() {
    let exclusive = System::lock_fault_tests().await;
    let Some((home, disk)) = on_a_small_disk() else { return };
    let system = System::start_in(Database::Embedded, home, exclusive).await;
    for _ in 0..repetitions() {
        let postmaster = system.home.postmaster();
        disk.fill();
        // PostgreSQL ends when the disk has no space for the next WAL file.
        system.wait_until_out_of_space(postmaster.unwrap()).await;
        tokio::time::sleep(2 * fault_duration()).await;
        disk.free();
        system.assert_recovers("full, embedded").await;
    }
    system.check_promises().await;
}
