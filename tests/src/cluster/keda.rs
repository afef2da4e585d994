//! What the suites ask of KEDA: its objects' conditions, and what its operator counts.
//!
//! Not KEDA's calls to the aggregator, which the aggregator counts.

use std::{
    cell::Cell,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, ensure};
use k8s_openapi::api::{
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::{Event, Pod},
};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, ListParams},
    core::GroupVersionKind,
    runtime::watcher,
};
use tokio::time::{Instant, sleep};

use super::{Cluster, Namespace, events, watching};
use crate::{client, local::Metrics, wait};

/// Namespace that KEDA runs in.
pub const NAMESPACE: &str = "keda";

/// Selects the operator's pod.
const OPERATOR: &str = "app=keda-operator";

/// Where the operator serves its metrics.
const METRICS_PORT: u16 = 8080;

/// How long its queue has to be empty, as what it wrote comes back to it; how long that may take, with hundreds that are
/// new; and how often it is looked at, as its page is long.
const IDLE: Duration = Duration::from_secs(3);
const BUSY: Duration = Duration::from_mins(5);
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The kind `ScaledObject`.
pub(super) fn scaled_object() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(
        "keda.sh",
        "v1alpha1",
        "ScaledObject",
    ))
}

/// Returns the status (`True`, `False` or `Unknown`) and the reason of a `ScaledObject`'s condition.
pub fn condition<'a>(object: &'a DynamicObject, kind: &str) -> Option<(&'a str, &'a str)> {
    let conditions = object.data["status"]["conditions"].as_array()?;
    let found = conditions
        .iter()
        .find(|condition| condition["type"] == kind)?;
    Some((
        found["status"].as_str()?,
        found["reason"].as_str().unwrap_or_default(),
    ))
}

/// Returns the status and the reason of an HPA's condition.
pub fn hpa_condition<'a>(
    hpa: &'a HorizontalPodAutoscaler,
    kind: &str,
) -> Option<(&'a str, &'a str)> {
    let conditions = hpa.status.as_ref()?.conditions.as_ref()?;
    let found = conditions
        .iter()
        .find(|condition| condition.type_ == kind)?;
    Some((&found.status, found.reason.as_deref().unwrap_or_default()))
}

/// Returns the name of the HPA that KEDA makes for a `ScaledObject`.
pub fn hpa_name(scaled_object: &str) -> String {
    format!("keda-hpa-{scaled_object}")
}

/// Returns how often an HPA has looked and found that it cannot compute a replica count.
///
/// # Errors
///
/// When the API server does not answer.
pub async fn failed_hpa_looks(namespace: &Namespace, scaled_object: &str) -> anyhow::Result<u64> {
    let selected = ListParams::default().fields(&format!(
        "involvedObject.name={},reason=FailedComputeMetricsReplicas",
        hpa_name(scaled_object)
    ));
    let listed = namespace.api::<Event>().list(&selected).await?;
    Ok(listed.iter().map(events::times).sum())
}

/// Waits for KEDA's event about a `ScaledObject`.
///
/// # Errors
///
/// When it does not come.
pub async fn event(
    namespace: &Namespace,
    scaled_object: &str,
    reason: &str,
) -> anyhow::Result<Event> {
    let selected = watcher::Config::default().fields(&format!(
        "involvedObject.kind=ScaledObject,involvedObject.name={scaled_object},reason={reason}"
    ));
    let what = format!("the event {reason} of {scaled_object}");
    watching::until_all(&namespace.api(), selected, &what, |found| {
        found.values().next().cloned().ok_or("none")
    })
    .await
}

/// Returns how many errors the operator has counted for a `ScaledObject`, of its own polls and of the HPA's looks.
///
/// # Errors
///
/// When the operator's metrics cannot be had.
pub async fn errors(namespace: &Namespace, scaled_object: &str) -> anyhow::Result<u64> {
    let metrics = operator_metrics(namespace.cluster()).await?;
    let labels = [
        ("namespace", namespace.name()),
        ("scaledObject", scaled_object),
    ];
    metrics.count("keda_scaled_object_errors_total", &labels)
}

/// Returns how many seconds of processors the operator has used so far.
///
/// # Errors
///
/// When the operator's metrics cannot be had.
pub async fn operator_cpu(namespace: &Namespace) -> anyhow::Result<f64> {
    let metrics = operator_metrics(namespace.cluster()).await?;
    metrics.sum("process_cpu_seconds_total", &[])
}

/// Waits until the operator has had nothing to do about `ScaledObject`s for a while.
///
/// It sends 20 requests a second to the API server, and needs several for each that is new.
///
/// # Errors
///
/// When it goes on and on, or its metrics cannot be had.
pub async fn until_idle(cluster: &Cluster) -> anyhow::Result<()> {
    let busy = Cell::new(Instant::now());
    wait::until("KEDA's queue to be empty", BUSY, async || {
        sleep(LOOK_INTERVAL).await;
        let metrics = operator_metrics(cluster).await?;
        let queue = [("name", "scaledobject")];
        let waiting = metrics.sum("workqueue_depth", &queue)?;
        let begun = metrics.sum("workqueue_unfinished_work_seconds", &queue)?;
        if waiting + begun > 0.0 {
            busy.set(Instant::now());
        }
        ensure!(busy.get().elapsed() >= IDLE, "{waiting} wait");
        Ok(())
    })
    .await
}

async fn operator_metrics(cluster: &Cluster) -> anyhow::Result<Metrics> {
    let pods = Api::<Pod>::namespaced(cluster.client(), NAMESPACE);
    let pods = pods.list(&ListParams::default().labels(OPERATOR)).await?;
    let address = pods
        .iter()
        .find_map(|pod| pod.status.as_ref()?.pod_ip.clone());
    let address = address.context("KEDA's operator has no pod with an address")?;
    let address = SocketAddr::new(address.parse::<IpAddr>()?, METRICS_PORT);
    let page = client::get(address, "/metrics").await;
    let page = page.context("KEDA's operator does not tell its metrics")?;
    Ok(Metrics::new(page.text()))
}
