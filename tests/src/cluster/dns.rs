//! Names as the cluster's own DNS resolves them.
//!
//! Asks the server directly: the machine's resolver knows nothing of the cluster.

use std::net::IpAddr;

use anyhow::Context;
use hickory_resolver::{
    Resolver,
    config::{NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};
use k8s_openapi::api::core::v1::Service;
use kube::Api;

use super::Cluster;

/// Where the cluster's DNS is, as kubelets tell their pods.
const NAMESPACE: &str = "kube-system";
const SERVICE: &str = "kube-dns";

/// Returns the addresses of a whole name, such as `web.shop.svc.cluster.local`.
///
/// # Errors
///
/// When the cluster has no DNS, or that does not know the name.
pub async fn resolve(cluster: &Cluster, name: &str) -> anyhow::Result<Vec<IpAddr>> {
    let service = Api::<Service>::namespaced(cluster.client(), NAMESPACE)
        .get(SERVICE)
        .await;
    let service = service.with_context(|| format!("no Service {NAMESPACE}/{SERVICE}"))?;
    let address = service.spec.and_then(|spec| spec.cluster_ip);
    let address: IpAddr = address.context("the DNS Service has no address")?.parse()?;
    let servers = ResolverConfig::from_name_servers(vec![NameServerConfig::udp_and_tcp(address)]);
    let provider = TokioRuntimeProvider::default();
    let resolver = Resolver::builder_with_config(servers, provider).build()?;
    // The last dot says that nothing is to be appended.
    let found = resolver.lookup_ip(format!("{name}.")).await;
    let found = found.with_context(|| format!("{address} does not resolve {name}"))?;
    Ok(found.iter().collect())
}
