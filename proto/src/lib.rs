//! The protocols Stillwake speaks: KEDA's external scaler, the reports of its own sidecars and activators, and how a
//! sidecar that goes away introduces the connections it hands over.
//!
//! Only messages and their framing; who sends what and when is decided by the crates that use them.

use std::fmt;

pub mod frame;
pub mod relay;

/// Report frames, generated from `proto/report.proto`.
#[allow(
    missing_docs,
    clippy::pedantic,
    reason = "generated; the .proto file documents it"
)]
pub mod report {
    include!(concat!(env!("OUT_DIR"), "/stillwake.report.v1.rs"));
}

impl fmt::Display for report::Workload {
    /// Writes `namespace/kind/name`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}", self.namespace, self.kind, self.name)
    }
}

/// KEDA's external scaler, generated from `proto/externalscaler.proto`.
#[cfg(feature = "scaler")]
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::pedantic,
    reason = "generated; the .proto file documents it"
)]
pub mod scaler {
    include!(concat!(env!("OUT_DIR"), "/externalscaler.rs"));
}

/// Version of the report protocol that this build speaks.
pub const REPORT_VERSION: u32 = 1;
