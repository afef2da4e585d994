//! The reporter's side of the report protocol: keeps every aggregator told, whatever becomes of the connections.
//!
//! What a report says is the [`Source`]'s business; a sidecar and an activator differ in nothing else. The aggregator's
//! side is in its own crate.

use std::{fmt, path::PathBuf, time::Duration};

use stillwake_proto::report::{Hello, reporter_frame};
use stillwake_runtime::tls::Trust;
use tokio::sync::watch;

mod backoff;
mod connection;
mod names;
mod reporter;
mod schedule;
mod status;

pub use names::{LookupError, resolve};
pub use reporter::Reporter;
pub use status::{AddressStatus, Status, Totals};

/// How often names are resolved again unless asked otherwise.
pub const RESOLVE_INTERVAL: Duration = Duration::from_secs(10);

/// Least time between two reports on one connection unless asked otherwise.
pub const MINIMUM_GAP: Duration = Duration::from_millis(50);

/// Where to report, as whom, and how eagerly.
#[derive(Clone, PartialEq)]
pub struct ReportingConfig {
    /// Aggregators as `host:port`. Every address gets a connection of its own, once even if several names have it. May
    /// be empty.
    pub aggregators: Vec<String>,
    /// Authorities that an aggregator's certificate must come from. With them every connection is TLS and the aggregator
    /// has to be the host that its name begins with (of several names with the same address the first); without them
    /// none is.
    pub trust: Option<Trust>,
    /// Sent first on each connection. Its version is set to the one this build speaks, and its token to the content
    /// of `token_file` if there is one.
    pub hello: Hello,
    /// Projected service-account token, read again for each connection because the kubelet replaces it.
    pub token_file: Option<PathBuf>,
    /// How often names are resolved again.
    pub resolve_interval: Duration,
    /// Least time between two reports on one connection; edges in between wait for its end and are sent as one.
    pub minimum_gap: Duration,
}

impl ReportingConfig {
    /// Returns a configuration with the default intervals, for plaintext and without a token file.
    pub fn new(aggregators: Vec<String>, hello: Hello) -> Self {
        Self {
            aggregators,
            trust: None,
            hello,
            token_file: None,
            resolve_interval: RESOLVE_INTERVAL,
            minimum_gap: MINIMUM_GAP,
        }
    }
}

impl fmt::Debug for ReportingConfig {
    /// Leaves out the token.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ReportingConfig")
            .field("aggregators", &self.aggregators)
            .field("trust", &self.trust)
            .field("pod", &self.hello.pod)
            .field("uid", &self.hello.uid)
            .field("epoch", &self.hello.epoch)
            .field("token_file", &self.token_file)
            .field("resolve_interval", &self.resolve_interval)
            .field("minimum_gap", &self.minimum_gap)
            .finish_non_exhaustive()
    }
}

/// What there is to report.
pub trait Source: Send + Sync + 'static {
    /// Begins the reports of one new connection, whose other end knows nothing yet.
    fn session(&self) -> Box<dyn Session>;

    /// Returns a receiver whose value changes whenever a report should go at once.
    ///
    /// The change must come after what it announces is visible to [`Session::report`].
    fn edges(&self) -> watch::Receiver<u64>;
}

/// The reports of one connection.
pub trait Session: Send {
    /// Returns the state of this moment. The first call on a session must return everything, later ones may leave out
    /// what has not changed. Must not block.
    fn report(&mut self) -> Report;
}

/// One report, ready to be framed.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The frame's content.
    pub kind: reporter_frame::Kind,
    /// Requests in flight or held. With any, the next report is due after the busy interval, or sooner while they grow.
    pub requests: u64,
}

/// Returns a random epoch for [`Hello::epoch`]; never 0.
pub fn random_epoch() -> u64 {
    rand::random_range(1..=u64::MAX)
}

/// Returns `duration` in the microseconds that report frames count in.
pub fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod scripted;
