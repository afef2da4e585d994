//! Workloads at zero: how they get there, and what stands in for them there.
//!
//! What comes of requests then is the suites' own.

use std::{io::ErrorKind, net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};
use http::StatusCode;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod, discovery::v1::EndpointSlice};
use kube::{Api, api::ListParams, runtime::watcher};
use tokio::{net::TcpStream, time::timeout};

use super::{
    Namespace, pods::INJECT, scaling::Scaling, scene::Scene, stillwake::Stillwake, watching,
    web::Web,
};
use crate::{client::Answer, wait};

/// Selects the slices of all activators.
const OURS: &str = "endpointslice.kubernetes.io/managed-by=stillwake.dev";

/// Returns what selects those of a Service.
fn of_service(service: &str) -> String {
    format!("{OURS},kubernetes.io/service-name={service}")
}

/// Returns a `ScaledObject` that lets its workload sleep soon, with the aggregator's defaults else.
pub fn scaling(name: &str, metadata: &[(&str, &str)]) -> Scaling {
    Scaling {
        name: name.to_owned(),
        min: 0,
        polling: Duration::from_secs(1),
        cooldown: Duration::from_secs(2),
        ..Scene::scaling(metadata, &[])
    }
}

/// Starts a Deployment and its Service, scales it, and returns where the Service answers once the workload sleeps.
///
/// # Errors
///
/// When one of them does not come up, or the workload does not sleep.
pub async fn put_to_sleep(
    namespace: &Namespace,
    stillwake: &Stillwake,
    web: &Web,
    scaling: &Scaling,
) -> anyhow::Result<SocketAddr> {
    let (_, service) = web.start(namespace).await?;
    scaling.start(namespace, stillwake).await?;
    until_asleep(namespace, &web.name).await?;
    Ok(service)
}

/// Fails unless it is a `200` that had to wait.
///
/// # Errors
///
/// With the answer, if it is another.
pub fn ensure_waited(answer: &Answer) -> anyhow::Result<()> {
    ensure!(
        answer.status == StatusCode::OK && answer.cold_start().is_some(),
        "{} {:?} {}",
        answer.status,
        answer.headers,
        answer.text()
    );
    Ok(())
}

/// Waits until a Deployment has no replica, is to have none, and its Service of the same name leads to activators.
///
/// # Errors
///
/// When that does not come about.
pub async fn until_asleep(namespace: &Namespace, name: &str) -> anyhow::Result<()> {
    until_empty(namespace, name).await?;
    until_served(namespace, name, true).await
}

/// Waits until a Deployment has no replica, is to have none, and its last pod is gone.
///
/// # Errors
///
/// When that does not come about.
pub async fn until_empty(namespace: &Namespace, name: &str) -> anyhow::Result<()> {
    let deployments = namespace.api::<Deployment>();
    watching::until(&deployments, name, "sleep", |deployment| {
        let deployment = deployment.ok_or_else(|| "there is none".to_owned())?;
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        let status = deployment.status.clone().unwrap_or_default();
        let there = status.replicas.unwrap_or_default();
        if wanted == Some(0) && there == 0 {
            Ok(())
        } else {
            Err(format!("{wanted:?} replicas wanted, {there} there"))
        }
    })
    .await?;
    let selected = watcher::Config::default().labels(&format!("app={name}"));
    let what = format!("the end of the pods of {name}");
    watching::until_all::<Pod, _, _>(&namespace.api(), selected, &what, |pods| {
        if pods.is_empty() {
            Ok(())
        } else {
            Err(watching::phases(pods))
        }
    })
    .await
}

/// Waits until a Service leads to activators, or does not any more.
///
/// # Errors
///
/// When that does not come about.
pub async fn until_served(
    namespace: &Namespace,
    service: &str,
    served: bool,
) -> anyhow::Result<()> {
    let selected = watcher::Config::default().labels(&of_service(service));
    let what = format!("the activators' slices of {service} (ready: {served})");
    watching::until_all::<EndpointSlice, _, _>(&namespace.api(), selected, &what, |slices| {
        let ready = slices.values().filter(|slice| is_ready(slice)).count();
        let is_served = ready > 0 && ready == slices.len();
        let is_right = if served { is_served } else { ready == 0 };
        is_right
            .then_some(())
            .ok_or_else(|| format!("{ready} of {} ready", slices.len()))
    })
    .await
}

/// Returns all slices of activators in a namespace.
///
/// # Errors
///
/// When the API server does not answer.
pub async fn slices(namespace: &Namespace) -> anyhow::Result<Vec<EndpointSlice>> {
    let all: Api<EndpointSlice> = namespace.api();
    Ok(all.list(&ListParams::default().labels(OURS)).await?.items)
}

/// Returns where each activator takes the connections of a Service, whether any are led there or not.
///
/// # Errors
///
/// When none does, or the API server does not answer.
pub async fn activators(namespace: &Namespace, service: &str) -> anyhow::Result<Vec<SocketAddr>> {
    let slices: Api<EndpointSlice> = namespace.api();
    let selected = ListParams::default().labels(&of_service(service));
    let mut addresses = Vec::new();
    for slice in slices.list(&selected).await? {
        let mut hosts = slice.endpoints.iter().flat_map(|one| &one.addresses);
        let mut ports = slice.ports.iter().flatten().filter_map(|one| one.port);
        let address = hosts.next().zip(ports.next());
        let (host, port) = address.context("a slice leads nowhere")?;
        addresses.push(SocketAddr::new(host.parse()?, u16::try_from(port)?));
    }
    ensure!(!addresses.is_empty(), "no activator serves {service}");
    Ok(addresses)
}

/// Returns whether a slice draws connections.
pub fn is_ready(slice: &EndpointSlice) -> bool {
    let mut endpoints = slice.endpoints.iter();
    endpoints.any(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions.and_then(|conditions| conditions.ready) == Some(true)
    })
}

/// Waits until no slice of an activator is left in a namespace.
///
/// # Errors
///
/// When some stay.
pub async fn until_no_slice(namespace: &Namespace) -> anyhow::Result<()> {
    let selected = watcher::Config::default().labels(OURS);
    let what = "the end of the activators' slices";
    watching::until_all::<EndpointSlice, _, _>(&namespace.api(), selected, what, |slices| {
        let names: Vec<_> = slices.keys().collect();
        names
            .is_empty()
            .then_some(())
            .ok_or_else(|| format!("{names:?}"))
    })
    .await
}

/// Returns an app that asks for the sidecar, and takes traffic a second after it listens at the latest.
pub fn app(name: &str) -> Web {
    Web::new(name).label(INJECT, "enabled")
}

/// Fails unless a Deployment sleeps.
///
/// # Errors
///
/// When it does not.
pub async fn ensure_asleep(namespace: &Namespace, name: &str) -> anyhow::Result<()> {
    let deployment = namespace.api::<Deployment>().get(name).await?;
    let wanted = deployment.spec.and_then(|spec| spec.replicas);
    ensure!(wanted == Some(0), "{name} is to have {wanted:?} replicas");
    Ok(())
}

/// Far below the time for which requests are held.
pub const AT_ONCE: Duration = Duration::from_secs(10);

/// Waits until a Service refuses connections, none of which may hang.
///
/// # Errors
///
/// When somebody goes on accepting, or nobody says anything.
pub async fn until_refused(service: SocketAddr) -> anyhow::Result<()> {
    wait::until("refused connections", watching::PATIENCE, async || {
        let dialled = timeout(AT_ONCE, TcpStream::connect(service)).await;
        match dialled.context("a connection hangs")? {
            Ok(_) => anyhow::bail!("somebody accepts"),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(error.into()),
        }
    })
    .await
}
