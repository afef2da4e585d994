//! What local mode is told, checked and typed.
//!
//! Knows nothing of the command line it may have come from.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::local::{hpa, keda};

/// How to run one workload on this machine.
#[derive(Clone, Debug)]
pub struct Options {
    /// Program and arguments, `{port}` not yet replaced. Not empty.
    pub command: Vec<String>,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where the admin pages are served.
    pub admin: SocketAddr,
    /// Where the aggregator serves KEDA's gRPC.
    pub scaler: SocketAddr,
    /// The sidecar's program; none for the one beside this program.
    pub sidecar: Option<PathBuf>,
    /// Requests in flight per replica.
    pub target_concurrency: Option<f64>,
    /// Requests per second and replica.
    pub target_request_rate: Option<f64>,
    /// Time over which load is averaged.
    pub window: Duration,
    /// Time between two looks at activity. Not zero.
    pub polling_interval: Duration,
    /// Time between two comparisons of load and target. Not zero.
    pub sync_period: Duration,
    /// Between 0 and 1.
    pub keda: keda::Settings,
    /// From 1 on.
    pub hpa: hpa::Settings,
    /// Longest time from the start of a process until it listens.
    pub startup_timeout: Duration,
    /// Longest time to finish requests, and again to exit.
    pub grace: Duration,
    /// Longest time a request is held.
    pub hold_timeout: Duration,
    /// Most requests held.
    pub max_held: usize,
    /// Most bytes held.
    pub max_held_bytes: usize,
    /// Start the command once beforehand.
    pub check: bool,
    /// Pass the output of the processes on.
    pub show_output: bool,
}
