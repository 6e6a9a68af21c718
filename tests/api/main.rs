//! Tests of a running Muster: real HTTP, real PostgreSQL, real processes.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test that cannot go on should stop, and a test is not imported"
)]

mod admin;
mod altered_tables;
mod architecture;
mod audit;
mod backup;
mod callbacks;
mod cgi_requests;
mod cgi_retries;
mod cli;
mod concurrency;
mod connection_pool;
mod corpus;
mod crash;
mod deployment;
mod doctor;
mod embedded;
mod embedded_access;
mod encoding;
mod envelope;
mod errcodes;
mod faults;
mod freshness;
mod harness;
mod health;
mod history;
mod limits;
mod list;
mod lock_order;
mod log;
mod malformed_requests;
mod manual;
mod metrics;
mod move_to;
mod plaintext_requests;
mod rate_limits;
mod request_id;
mod sealed_attacks;
mod secrets;
mod security;
mod serve;
mod session;
mod start_page;
mod startup;
mod token;
mod traces;
mod transport;
mod unicode;
mod update;
mod v1;
