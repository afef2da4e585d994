//! The flags of the activator.

#![allow(
    clippy::doc_markdown,
    reason = "what is documented here is shown as help, where backticks are only noise"
)]

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use clap::Args;

use super::ProcessArgs;
use crate::args::{address, at_least_one, positive_duration};

/// Hold requests for workloads at zero, and hand them to the first pods that are ready.
///
/// Runs in a cluster; the chart starts it.
#[derive(Clone, Debug, Args)]
pub struct ActivatorArgs {
    /// What every role needs to know.
    #[command(flatten)]
    pub process: ProcessArgs,
    /// The UID of this pod
    #[arg(long, value_name = "UID", env = "POD_UID", hide_env_values = true)]
    pub pod_uid: String,
    /// The addresses of this pod, one of each family
    #[arg(
        long = "pod-ip",
        value_name = "ADDRESS",
        env = "POD_IPS",
        hide_env_values = true,
        value_delimiter = ',',
        required = true
    )]
    pub pod_ips: Vec<IpAddr>,
    /// The node that this pod runs on
    #[arg(
        long,
        value_name = "NODE",
        env = "NODE_NAME",
        hide_env_values = true,
        required = true
    )]
    pub node: Option<String>,
    /// Labels of all pods of the activator, which share the Services and clean up after each other
    #[arg(long, value_name = "SELECTOR")]
    pub replica_labels: String,
    /// The ClusterRole that owns the EndpointSlices published here: they go when it goes
    #[arg(long, value_name = "CLUSTERROLE")]
    pub owner: String,
    /// How many of them take the connections of one Service, where there are more
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one)]
    pub copies: usize,
    /// There is one of them on every node, as in a DaemonSet: each takes the connections of all Services
    #[arg(long, conflicts_with = "copies")]
    pub every_node: bool,
    /// Where to listen for Services: one port for each of theirs
    #[arg(long, value_name = "FIRST-LAST", default_value = "20000-29999", value_parser = ports)]
    pub ports: Ports,
    /// Where sidecars whose pods go away hand over connections
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:9092", value_parser = address)]
    pub relay: SocketAddr,

    /// The Service that leads KEDA to the aggregator: a trigger whose scalerAddress names it is ours
    #[arg(long, value_name = "SERVICE", help_heading = "Aggregators")]
    pub service: String,
    /// Where to report, as HOST:PORT; may be given more than once
    #[arg(
        long = "aggregator",
        value_name = "HOST:PORT",
        required = true,
        help_heading = "Aggregators"
    )]
    pub aggregators: Vec<String>,
    /// PEM file with the authorities of the aggregators' certificates; read again when it changes
    #[arg(long, value_name = "FILE", help_heading = "Aggregators")]
    pub aggregator_authorities: PathBuf,
    /// File with the token by which the aggregators know this pod; read again for each connection
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/run/secrets/stillwake/token",
        help_heading = "Aggregators"
    )]
    pub token: PathBuf,

    /// How long a request may wait for a pod before it gets 503
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = positive_duration, help_heading = "Waiting requests")]
    pub hold_timeout: Duration,
    /// Most requests that may wait for one workload; further ones get 503 at once
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = at_least_one, help_heading = "Waiting requests")]
    pub max_held: usize,
    /// Most bytes of heads of requests that wait for one workload; further requests get 503 at once
    #[arg(long, value_name = "BYTES", default_value_t = 16 * 1024 * 1024, value_parser = at_least_one, help_heading = "Waiting requests")]
    pub max_held_bytes: usize,
}

/// A range of ports, none of them 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports(pub RangeInclusive<u16>);

fn ports(text: &str) -> Result<Ports, String> {
    let read = || {
        let (first, last) = text.split_once('-')?;
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (0 < first && first <= last).then_some(Ports(first..=last))
    };
    read().ok_or_else(|| "give the first and the last port, as in 20000-29999".to_owned())
}
