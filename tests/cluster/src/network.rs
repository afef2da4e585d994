//! The addresses of nodes, pods and Services, and the links between the nodes' network namespaces.
//!
//! Nothing leads out: the default route ends at an address that nobody has, because kubelet and API server want one.

use std::{net::Ipv4Addr, process::Command};

use anyhow::{Context, ensure};

use crate::entry::{NSENTER, TARGET};

/// Where `ClusterIP`s come from.
pub(crate) const SERVICES: &str = "10.96.0.0/16";
/// The first of them is the API server's.
pub(crate) const API_SERVER_SERVICE: &str = "10.96.0.1";
/// `CoreDNS`'s, as in its manifest.
pub(crate) const DNS_SERVICE: &str = "10.96.0.10";
/// Where pods' addresses come from, all nodes together.
pub(crate) const PODS: &str = "10.244.0.0/16";

/// The bridge on the first node that carries its address and leads to the others.
const BRIDGE: &str = "nodes";
/// The other nodes' end of the way to the bridge.
const UPLINK: &str = "eth0";
const GATEWAY: &str = "10.99.0.254";

/// Name and addresses of a node.
#[derive(Clone, Debug)]
pub(crate) struct NodeNetwork {
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
    /// The part of `PODS` that is this node's.
    pub(crate) pods: String,
}

impl NodeNetwork {
    /// The networks of `count` nodes: node1, node2 …
    pub(crate) fn plan(count: u8) -> Vec<Self> {
        (1..=count)
            .map(|number| Self {
                name: format!("node{number}"),
                address: Ipv4Addr::new(10, 99, 0, number),
                pods: format!("10.244.{number}.0/24"),
            })
            .collect()
    }
}

/// Connects the nodes, whose first processes are given, with each other.
///
/// The links live in the nodes' network namespaces and end with them.
pub(crate) fn connect(nodes: &[(NodeNetwork, u32)]) -> anyhow::Result<()> {
    let (first, first_process) = &nodes[0];
    ip(*first_process, &["link", "set", "lo", "up"])?;
    ip(*first_process, &["link", "add", BRIDGE, "type", "bridge"])?;
    set_up(*first_process, BRIDGE, first)?;
    for (node, process) in &nodes[1..] {
        ip(*process, &["link", "set", "lo", "up"])?;
        let link = format!("to-{}", node.name);
        let namespace = process.to_string();
        ip(
            *first_process,
            &[
                "link", "add", &link, "master", BRIDGE, "up", "type", "veth", "peer", "name",
                UPLINK, "netns", &namespace,
            ],
        )?;
        set_up(*process, UPLINK, node)?;
    }
    for (node, process) in nodes {
        for (other, _) in nodes.iter().filter(|(other, _)| other.name != node.name) {
            let address = other.address.to_string();
            ip(*process, &["route", "add", &other.pods, "via", &address])?;
        }
    }
    Ok(())
}

fn set_up(process: u32, link: &str, node: &NodeNetwork) -> anyhow::Result<()> {
    let address = format!("{}/24", node.address);
    ip(process, &["address", "add", &address, "dev", link])?;
    ip(process, &["link", "set", link, "up"])?;
    ip(
        process,
        &["route", "add", "default", "via", GATEWAY, "dev", link],
    )
}

fn ip(process: u32, arguments: &[&str]) -> anyhow::Result<()> {
    // Not among the node's processes: `netns` names another node by its process as the machine counts.
    let done = Command::new(NSENTER)
        .args([TARGET, &process.to_string(), "--net", "--", "ip"])
        .args(arguments)
        .output()
        .context("running ip")?;
    ensure!(
        done.status.success(),
        "ip {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&done.stderr).trim()
    );
    Ok(())
}
