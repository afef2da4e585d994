//! What every Stillwake process needs besides its job: signals, readiness, logs, metrics and an admin port.
//!
//! Knows nothing of Kubernetes, of HTTP traffic or of counts.

pub mod accept;
pub mod admin;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod readiness;
pub mod shutdown;
#[cfg(feature = "tls")]
pub mod tls;

/// Exit code for configuration that cannot be used (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;

/// Exit code for a start or a run that failed.
pub const EXIT_FAILURE: u8 = 1;
