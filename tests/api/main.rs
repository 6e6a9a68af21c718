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
mod api_keys;
mod app_removal;
mod architecture;
mod audit;
mod backup;
mod backup_altered;
mod backup_security;
mod bodies;
mod bounded_reads;
mod bounds;
mod callbacks;
mod cgi_conditions;
mod cgi_requests;
mod cgi_retries;
mod cli;
mod concurrency;
mod connection_pool;
mod copied_databases;
mod corpus;
mod crash;
mod database_tls;
mod deployment;
mod doctor;
mod embedded;
mod embedded_access;
mod encoding;
mod envelope;
mod errcodes;
mod faults;
mod feed;
mod freshness;
mod harness;
mod health;
mod history;
mod key_overlap;
mod leftovers;
mod limits;
mod list;
mod lock_order;
mod log;
mod malformed_requests;
mod manual;
mod metrics;
mod migrations;
mod move_to;
mod output;
mod own_connections;
mod pgbouncer;
mod plaintext_requests;
mod rate_limits;
mod request_id;
mod response_headers;
mod role_settings;
mod sealed_attacks;
mod secret_args;
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
