//! Every test that needs a running Muster: real HTTP, real PostgreSQL.

mod embedded;
