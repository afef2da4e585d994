//! KEDA's HTTP Add-on, the peer of some benchmarks: where it takes requests, and which one it is.
//!
//! The test cluster's harness installs it.

use std::net::SocketAddr;

use anyhow::Context;
use k8s_openapi::api::apps::v1::Deployment;

use super::{Namespace, keda, web};

/// Where requests are to be sent to.
const INTERCEPTOR: &str = "keda-add-ons-http-interceptor-proxy";

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

/// Returns the version of the Add-on that is installed.
///
/// # Errors
///
/// When none is.
pub async fn version(namespace: &Namespace) -> anyhow::Result<String> {
    let deployments = namespace.elsewhere(keda::NAMESPACE).api::<Deployment>();
    let found = deployments.get_opt("keda-add-ons-http-interceptor").await?;
    let found = found.context(
        "the HTTP Add-on is not installed; `make bench-cold` and `make bench-burst` do that, and run this then",
    )?;
    let mut labels = found.metadata.labels.unwrap_or_default();
    let version = labels.remove("app.kubernetes.io/version");
    version.context("the interceptor has no label that says its version")
}
