//! The program behind `benches/run`: it starts the servers, sends the load, checks the answers and
//! reports. It is not part of Muster. From Muster it uses the envelope, and the statements for
//! [`direct`].
//!
//! | module | holds |
//! | --- | --- |
//! | [`run`] | the rounds: reference and subject, one after the other |
//! | [`rows`] | the measurements, a file for each kind of work |
//! | [`environment`], [`server`], [`subscriber`] | the measured system |
//! | [`generator`], [`pace`] | sealed requests over kept connections, every answer checked |
//! | [`comparison`] | a request that compares a copy with the sessions |
//! | [`event_stream`] | clients of streams of changes |
//! | [`statement`], [`pgbench`], [`direct`], [`notify`] | the references in SQL |
//! | [`bare`], [`straightforward`], [`receiver`], [`poster`] | the references in HTTP |
//! | [`footprint`] | size, memory, time to start |
//! | [`report`], [`results`] | medians, the table, the JSON; the file of all results |
//! | [`hostile`] | loads that try to harm others: their latency, and the memory of the server |
//!
//! The surprise: the program starts itself again for the handlers and the receiver, so that their
//! CPU is counted apart from that of the load.

mod accounts;
mod app;
mod bare;
mod comparison;
mod connection;
mod database;
mod direct;
mod environment;
mod event_stream;
mod footprint;
mod generator;
mod hostile;
mod http;
mod latency;
mod notify;
mod pace;
mod pgbench;
mod poster;
mod process;
mod receiver;
mod reference;
mod report;
mod results;
mod rows;
mod run;
mod scripts;
mod seed;
mod server;
mod statement;
mod straightforward;
mod subscriber;
mod usage;

use clap::Parser;

#[derive(Parser)]
#[command(about = "Measures Muster beside references. Called by benches/run.")]
enum Command {
    /// Measure
    Run(run::Options),
    /// Measure an enterprise beside the loads of another one
    Neighbors(hostile::neighbors::Options),
    /// Measure the memory of a server under all such loads together
    Memory(hostile::memory::Options),
    /// Serve the bare handler, which seals the same message for every request
    Bare(bare::Options),
    /// Serve sessions with one statement for each request
    Straightforward(straightforward::Options),
    /// Receive callbacks, and count them
    Receive(receiver::Options),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Run(options) => run::run(&options),
        Command::Neighbors(options) => hostile::neighbors::run(&options),
        Command::Memory(options) => hostile::memory::run(&options),
        Command::Bare(options) => bare::serve(&options),
        Command::Straightforward(options) => straightforward::serve(&options),
        Command::Receive(options) => receiver::serve(&options),
    }
}
