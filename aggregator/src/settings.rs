//! What an operator may change about the aggregator.
//!
//! Not what a user says about one workload: that is trigger metadata.

use std::{ops::RangeInclusive, time::Duration};

/// Intervals and bounds of an aggregator.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a workload stays unknown while a ready pod of it has not reported, from when the pod was first seen
    /// ready, which is the start for all that were ready then.
    pub grace: Duration,
    /// How often a sidecar reports while requests are in flight; 100 ms to 60 s.
    pub busy_interval: Duration,
    /// How often a reporter reports otherwise; 1 s to 60 s.
    pub idle_interval: Duration,
    /// How often a wake-up is repeated while requests are held and there is no pod that could become ready.
    ///
    /// KEDA loses one that comes before its HPA exists or that meets a stale replica cache, and writes to the API
    /// server for each that it hears.
    pub hold_resend: Duration,
    /// Whether the HPA is asked to look at once when a workload's load has clearly risen, and then finds that load rather
    /// than its average.
    pub bursts: bool,
    /// How long a load has to last to be found; 0 to 1 s. What ends sooner is a blip. A look is asked for sooner, since it takes a
    /// while to come, and its answer waits for the rest.
    pub burst_lasting: Duration,
    /// Least time between two looks that are asked for one `ScaledObject`. Each is a write of its HPA.
    pub burst_interval: Duration,
    /// Most looks that are asked for in a second, over all `ScaledObject`s. Not 0.
    pub bursts_per_second: u32,
    /// How long a gRPC stream lives before it is ended with OK; each stream draws its own age.
    ///
    /// KEDA opens it again after 2 s, whatever ended it (`runStreamIsActive`, KEDA 2.21), and hears of no wake and no burst
    /// meanwhile. So it is long.
    pub stream_age: RangeInclusive<Duration>,
    /// How long a gRPC connection is used before its client is sent to look for a new one.
    ///
    /// KEDA resolves names again only when a connection ends.
    pub connection_age: Duration,
    /// How long a reporter may take for its first frame.
    pub hello_timeout: Duration,
    /// Most connections of reporters that have said who they are, at a time.
    pub max_connections: usize,
    /// Most connections of reporters that have not said yet who they are, at a time. Further ones wait to be accepted,
    /// so that when thousands come at once after a restart none of them is sent away.
    pub max_unidentified: usize,
    /// Most of those from one IP address. Further ones are closed.
    pub max_unidentified_per_address: usize,
    /// Most gRPC connections at a time.
    pub max_scaler_connections: usize,
    /// Most of those from one IP address; a KEDA has one for each way in which its triggers use TLS.
    pub max_scaler_connections_per_address: usize,
    /// Most gRPC streams at a time; KEDA opens two for each `ScaledObject`.
    pub max_streams: usize,
    /// Most workloads that one activator may name.
    pub max_held_workloads: usize,
    /// Most endpoint changes that wait for one slow activator before its connection is closed.
    pub max_queued_endpoints: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(30),
            busy_interval: Duration::from_secs(1),
            idle_interval: Duration::from_secs(10),
            hold_resend: Duration::from_secs(1),
            bursts: true,
            burst_lasting: Duration::from_millis(225),
            burst_interval: Duration::from_secs(3),
            bursts_per_second: 20,
            stream_age: Duration::from_mins(30)..=Duration::from_hours(1),
            connection_age: Duration::from_mins(30),
            hello_timeout: Duration::from_secs(5),
            max_connections: 20_000,
            max_unidentified: 1_000,
            max_unidentified_per_address: 100,
            max_scaler_connections: 1_000,
            max_scaler_connections_per_address: 100,
            max_streams: 20_000,
            max_held_workloads: 10_000,
            max_queued_endpoints: 1_000,
        }
    }
}
