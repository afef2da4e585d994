//! The product's ports as anybody in the cluster reaches them, and what is served there.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use stillwake_e2e::cluster::{
    pods,
    stillwake::{Component, Stillwake},
};
use stillwake_runtime::tls::{MaybeTls, Trust};
use tokio::net::TcpStream;

/// Where KEDA comes.
pub(crate) const SCALER: u16 = 9090;

/// Where sidecars report.
pub(crate) const REPORTS: u16 = 9091;

/// Where the API server comes.
pub(crate) const WEBHOOK: u16 = 9443;

/// Returns where a port of a pod is.
pub(crate) fn at(pod: &Pod, port: u16) -> anyhow::Result<SocketAddr> {
    let address = pods::address(pod);
    let address = address.with_context(|| format!("{} has no address", pod.name_any()))?;
    Ok(SocketAddr::new(address, port))
}

/// Returns the addresses of the reports' port.
pub(crate) async fn reports(stillwake: &Stillwake) -> anyhow::Result<Vec<SocketAddr>> {
    let pods = stillwake.replicas(Component::Aggregator).await?;
    ensure!(!pods.is_empty(), "there is no aggregator");
    pods.iter().map(|pod| at(pod, REPORTS)).collect()
}

/// Connects to a port, whose server has to prove that it is `host`.
pub(crate) async fn connect(
    trust: &Trust,
    host: &str,
    address: SocketAddr,
) -> anyhow::Result<MaybeTls> {
    let stream = TcpStream::connect(address).await;
    let stream = stream.with_context(|| format!("cannot connect to {address}"))?;
    let secured = trust.connect(host, stream).await;
    secured.with_context(|| format!("no TLS with {host} at {address}"))
}

/// Returns every port with a certificate of every replica, and whom it has to prove to be.
pub(crate) async fn certified(stillwake: &Stillwake) -> anyhow::Result<Vec<(SocketAddr, String)>> {
    let name = stillwake.name();
    let namespace = stillwake.namespace();
    let mut found = Vec::new();
    for pod in stillwake.replicas(Component::Webhook).await? {
        found.push((
            at(&pod, WEBHOOK)?,
            format!("{name}-webhook.{namespace}.svc"),
        ));
    }
    for pod in stillwake.replicas(Component::Aggregator).await? {
        found.push((at(&pod, REPORTS)?, stillwake.reports_host()));
        found.push((at(&pod, SCALER)?, format!("{name}-aggregator.{namespace}")));
    }
    Ok(found)
}
