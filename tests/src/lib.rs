//! Harness of the end-to-end suites: starts the real `stillwake run` or finds a real cluster, loads it, and keeps account
//! of every request.
//!
//! Holds no product code, and the suites see the product only as a user does: flags, sockets, signals, pages.

pub mod aggregator;
pub mod app;
#[cfg(feature = "cluster")]
pub mod benchmark;
pub mod binaries;
#[cfg(feature = "chart")]
pub mod chart;
pub mod client;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod journal;
pub mod journalled;
pub mod ledger;
pub mod load;
pub mod local;
pub mod payload;
pub mod processes;
pub mod raw;
pub mod server;
pub mod settings;
pub mod sidecar;
pub mod tools;
pub mod wait;

/// Carries a request's id from the client to the app and back.
pub const REQUEST_ID: &str = "x-request-id";

/// Names the process of the app that answered.
pub const SERVED_BY: &str = "x-served-by";

/// What the activator adds to the answer of a request that waited: milliseconds.
pub const COLD_START: &str = "x-stillwake-cold-start";
