//! Muster keeps chat sessions: who talks with whom, under which title, owned by whom, at which
//! version. Apps of an enterprise create, read and change them over HTTP.
//!
//! The house, top to bottom; imports point down only, and a test holds the code to it:
//!
//! | module | holds |
//! | --- | --- |
//! | [`cli`] | the commands: the composition root |
//! | [`http`] | actix: `/cgi` for existing clients, `/v1` for new ones, health |
//! | [`delivery`] | the callback worker: claim, seal, send, record |
//! | [`service`] | use cases: authorise, load, decide, write |
//! | [`postgres`] | the embedded PostgreSQL; copies of a whole database |
//! | [`repository`] | all SQL of one table or aggregate |
//! | [`keyring`] | the master keys, which seal the secrets that are stored |
//! | [`wire`] | envelope, access token, lenient JSON, error codes |
//! | [`domain`] | pure rules |
//! | [`config`], [`telemetry`], [`metrics`], [`clock`] | what every room but the pure ones may use |

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
