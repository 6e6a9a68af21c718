//! Muster keeps chat sessions: the members of each session, its title, its owner, its version and
//! its history. Apps of an enterprise create, read and change sessions over HTTP.
//!
//! The table lists the modules from top to bottom. Imports point down only;
//! `tests/api/architecture` checks this. `docs/development/request.md` shows the path of a
//! request through the modules.
//!
//! | module | holds |
//! | --- | --- |
//! | [`cli`] | the commands; the composition root |
//! | [`http`] | transport, middleware, credentials, the APIs `/cgi` and `/v1`, health |
//! | [`delivery`] | the callback worker: claim, seal, send, record |
//! | [`service`] | use cases: authenticate, load, decide, write; group commit, cache, feed |
//! | [`postgres`] | the embedded PostgreSQL server; copies of a whole database |
//! | [`repository`] | all SQL of one table or aggregate |
//! | [`keyring`] | the master keys of this process |
//! | [`wire`] | pure bytes: envelope, access token, lenient JSON, error codes, sealed secrets |
//! | [`domain`] | the rules of sessions, pure |
//! | [`config`], [`telemetry`], [`metrics`], [`clock`] | for all rooms but `wire`, `domain` |

pub mod cli;
pub mod clock;
pub mod config;
pub mod delivery;
pub mod domain;
pub mod http;
pub mod keyring;
pub mod metrics;
pub mod postgres;
pub mod repository;
pub mod service;
pub mod telemetry;
pub mod wire;
