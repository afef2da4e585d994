//! The addresses of nodes, pods and Services, and the links between the nodes' network namespaces.
//!
//! Of both families where the machine has both, IPv4 first: what does not ask for IPv6 gets none of it.
//!
//! Nothing leads out: the default route ends at an address that nobody has, because kubelet and API server want one.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    process::Command,
};

use anyhow::{Context, ensure};

use crate::{
    entry::{NSENTER, TARGET},
    files,
};

/// Where `ClusterIP`s come from.
const SERVICES: [&str; 2] = ["10.96.0.0/16", "fd96::/112"];
/// The first of them is the API server's.
pub(crate) const API_SERVER_SERVICE: &str = "10.96.0.1";
/// `CoreDNS`'s, as in its manifest.
pub(crate) const DNS_SERVICE: &str = "10.96.0.10";
/// Where pods' addresses come from, all nodes together.
const PODS: [&str; 2] = ["10.244.0.0/16", "fd44::/48"];
/// Everything, as a route leads there.
const ANYWHERE: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// The bridge on the first node that carries its address and leads to the others.
const BRIDGE: &str = "nodes";
/// The other nodes' end of the way to the bridge.
const UPLINK: &str = "eth0";
const GATEWAYS: [&str; 2] = ["10.99.0.254", "fd99::fe"];
/// How much of a node's address is the same for all nodes.
const LENGTHS: [u8; 2] = [24, 64];

/// Says whether IPv6 is off, as 0 or 1. Not there where the kernel has none.
const IPV6_IS_OFF: &str = "/proc/sys/net/ipv6/conf/all/disable_ipv6";

/// The address families of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Families {
    /// IPv4 alone.
    One,
    /// IPv4, and IPv6 second.
    Both,
}

impl Families {
    /// Those that the machine has.
    pub(crate) fn of_machine() -> anyhow::Result<Self> {
        let off = files::read_if_there(Path::new(IPV6_IS_OFF))?;
        Ok(Self::told(off.as_deref()))
    }

    fn told(off: Option<&str>) -> Self {
        match off.map(str::trim) {
            Some("0") => Self::Both,
            _ => Self::One,
        }
    }

    /// Where `ClusterIP`s come from.
    pub(crate) fn services(self) -> String {
        self.of(SERVICES).join(",")
    }

    /// Where pods' addresses come from, all nodes together.
    pub(crate) fn pods(self) -> String {
        self.of(PODS).join(",")
    }

    /// Where default routes lead.
    pub(crate) fn anywhere(self) -> Vec<&'static str> {
        self.of(ANYWHERE)
    }

    /// Of what there is for IPv4 and for IPv6, what is needed.
    fn of<T>(self, each: [T; 2]) -> Vec<T> {
        let count = match self {
            Self::One => 1,
            Self::Both => 2,
        };
        each.into_iter().take(count).collect()
    }
}

/// Name and addresses of a node.
#[derive(Clone, Debug)]
pub(crate) struct NodeNetwork {
    pub(crate) name: String,
    pub(crate) families: Families,
    /// One of each family.
    pub(crate) addresses: Vec<IpAddr>,
    /// The part of all pods' ranges that is this node's, one of each family.
    pub(crate) pods: Vec<String>,
}

impl NodeNetwork {
    /// The networks of `count` nodes: node1, node2 …
    pub(crate) fn plan(count: u8, families: Families) -> Vec<Self> {
        (1..=count)
            .map(|number| Self {
                name: format!("node{number}"),
                families,
                addresses: families.of([
                    Ipv4Addr::new(10, 99, 0, number).into(),
                    Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, number.into()).into(),
                ]),
                pods: families.of([
                    format!("10.244.{number}.0/24"),
                    format!("fd44:0:0:{number}::/64"),
                ]),
            })
            .collect()
    }

    /// The address of the first family, by which the control plane knows it.
    pub(crate) fn address(&self) -> IpAddr {
        self.addresses[0]
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
            for (pods, address) in other.pods.iter().zip(&other.addresses) {
                ip(
                    *process,
                    &["route", "add", pods, "via", &address.to_string()],
                )?;
            }
        }
    }
    Ok(())
}

fn set_up(process: u32, link: &str, node: &NodeNetwork) -> anyhow::Result<()> {
    // First: an address of IPv6 brings no route to a link that is down.
    ip(process, &["link", "set", link, "up"])?;
    let ways = LENGTHS.iter().zip(GATEWAYS);
    for (address, (length, gateway)) in node.addresses.iter().zip(ways) {
        let address = format!("{address}/{length}");
        ip(process, &["address", "add", &address, "dev", link])?;
        ip(
            process,
            &["route", "add", "default", "via", gateway, "dev", link],
        )?;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_ipv6_gets_a_cluster_of_ipv4_alone() {
        for (off, expected) in [
            (None, Families::One),
            (Some("1\n"), Families::One),
            (Some("0\n"), Families::Both),
        ] {
            assert_eq!(Families::told(off), expected, "{off:?}");
        }
        let alone = &NodeNetwork::plan(2, Families::One)[1];
        assert_eq!(alone.addresses, [IpAddr::from([10, 99, 0, 2])]);
        assert_eq!(alone.pods, ["10.244.2.0/24"]);
        assert_eq!(Families::One.services(), "10.96.0.0/16");
    }

    #[test]
    fn ipv6_comes_second_everywhere() {
        let node = &NodeNetwork::plan(2, Families::Both)[1];
        assert_eq!(node.address(), node.addresses[0]);
        let addresses = node.addresses.iter().map(ToString::to_string);
        assert_eq!(addresses.collect::<Vec<_>>(), ["10.99.0.2", "fd99::2"]);
        assert_eq!(node.pods, ["10.244.2.0/24", "fd44:0:0:2::/64"]);
        assert_eq!(Families::Both.pods(), "10.244.0.0/16,fd44::/48");
        assert_eq!(Families::Both.services(), "10.96.0.0/16,fd96::/112");
    }
}
