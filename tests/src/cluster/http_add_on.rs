//! KEDA's HTTP Add-on, the peer of some benchmarks: where it takes requests, and which one it is.
//!
//! The test cluster's harness installs it.

use std::net::SocketAddr;

use anyhow::Context;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::api::ListParams;

use super::{Namespace, keda, watching, web};

/// Where requests are to be sent to.
const INTERCEPTOR: &str = "keda-add-ons-http-interceptor-proxy";

/// What takes them there.
const INTERCEPTORS: &str = "keda-add-ons-http-interceptor";

/// The `scalerAddress` of triggers that are to scale by what the interceptor holds and forwards.
pub const SCALER: &str = "keda-add-ons-http-external-scaler.keda:9090";

/// Returns where the interceptor takes requests of all hosts.
///
/// # Errors
///
/// When it is not installed.
pub async fn interceptor(namespace: &Namespace) -> anyhow::Result<SocketAddr> {
    web::cluster_address(&namespace.elsewhere(keda::NAMESPACE), INTERCEPTOR).await
}

/// Returns the pods of the interceptor's ready replicas.
///
/// # Errors
///
/// When it is not installed.
pub async fn interceptors(namespace: &Namespace) -> anyhow::Result<Vec<Pod>> {
    let deployment = interceptor_deployment(namespace).await?;
    let labels = deployment.spec.and_then(|spec| spec.selector.match_labels);
    let labels = labels.context("the interceptor selects its pods by no label")?;
    let labels = labels.iter().map(|(name, value)| format!("{name}={value}"));
    let selected = ListParams::default().labels(&labels.collect::<Vec<_>>().join(","));
    let pods = namespace.elsewhere(keda::NAMESPACE).api::<Pod>();
    let pods = pods.list(&selected).await?;
    Ok(pods.into_iter().filter(watching::is_ready).collect())
}

/// Returns the version of the Add-on that is installed.
///
/// # Errors
///
/// When none is.
pub async fn version(namespace: &Namespace) -> anyhow::Result<String> {
    let found = interceptor_deployment(namespace).await?;
    let mut labels = found.metadata.labels.unwrap_or_default();
    let version = labels.remove("app.kubernetes.io/version");
    version.context("the interceptor has no label that says its version")
}

async fn interceptor_deployment(namespace: &Namespace) -> anyhow::Result<Deployment> {
    let deployments = namespace.elsewhere(keda::NAMESPACE).api::<Deployment>();
    deployments.get_opt(INTERCEPTORS).await?.context(
        "the HTTP Add-on is not installed; `make bench-cold` and `make bench-burst` do that, and run this then",
    )
}
