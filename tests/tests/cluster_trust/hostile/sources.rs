//! Addresses that connections come from: as many as are wanted, all of this machine.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Command,
};

use anyhow::{Context, ensure};
use kube::ResourceExt;
use stillwake_e2e::cluster::stillwake::{Component, Stillwake};
use stillwake_test_cluster::Running;
use tokio::net::{TcpSocket, TcpStream};

use crate::ports::{self, REPORTS};

/// A range of the first node's own, for as long as this lives. Pods of that node answer to it.
pub(super) struct Sources {
    range: String,
    third: u8,
    /// An aggregator of that node.
    pub(super) name: String,
    /// Where its port for reports is.
    pub(super) target: SocketAddr,
}

impl Sources {
    pub(super) async fn new(stillwake: &Stillwake) -> anyhow::Result<Self> {
        let running = Running::expect()?;
        let node = running.nodes().first().context("there is no node")?;
        let aggregators = stillwake.replicas(Component::Aggregator).await?;
        let near = aggregators.iter().find(|pod| {
            let spec = pod.spec.as_ref();
            spec.and_then(|spec| spec.node_name.as_ref()) == Some(&node.name)
        });
        let near = near.with_context(|| format!("no aggregator is on {}", node.name))?;
        let third = rand::random();
        let range = format!("10.98.{third}.0/24");
        route("add", &range)?;
        Ok(Self {
            range,
            third,
            name: near.name_any(),
            target: ports::at(near, REPORTS)?,
        })
    }

    /// Returns an address; the same for the same number.
    pub(super) fn address(&self, number: u8) -> IpAddr {
        Ipv4Addr::new(10, 98, self.third, number).into()
    }

    /// Connects from an address.
    pub(super) async fn connect(&self, number: u8) -> anyhow::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(self.address(number), 0))?;
        Ok(socket.connect(self.target).await?)
    }
}

impl Drop for Sources {
    fn drop(&mut self) {
        if let Err(error) = route("del", &self.range) {
            eprintln!("{error:#}");
        }
    }
}

/// The test's threads are in the node's network, and so is what they start.
fn route(what: &str, range: &str) -> anyhow::Result<()> {
    let mut ip = Command::new("ip");
    let done = ip
        .args(["route", what, "local", range, "dev", "lo"])
        .output();
    let done = done.context("running ip")?;
    let errors = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "ip route {what} {range}: {errors}");
    Ok(())
}
