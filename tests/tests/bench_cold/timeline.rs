//! When what happened in the cluster while a request waited, on the client's clock: the steps between the activators' signal
//! and the answer, which the activators cannot see.

use std::{pin::pin, time::Duration};

use anyhow::Context;
use futures_util::StreamExt;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::runtime::watcher;
use stillwake_e2e::cluster::{Namespace, pods, watching};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::task::AbortOnDropHandle;

/// A step of a wake, in the order in which they follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// KEDA has written that there is to be a replica.
    Written,
    /// Its pod is there.
    Created,
    /// The sandbox stands: the pod has its address.
    Addressed,
    /// The app's container runs.
    Running,
    /// Kubernetes takes the pod for ready.
    Ready,
}

impl Step {
    pub(super) const ALL: [Self; 5] = [
        Self::Written,
        Self::Created,
        Self::Addressed,
        Self::Running,
        Self::Ready,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Written => "KEDA has written the replica count",
            Self::Created => "the pod is created",
            Self::Addressed => "the pod has an address",
            Self::Running => "the app's container runs",
            Self::Ready => "Kubernetes takes the pod for ready",
        }
    }
}

/// Watches one Deployment and its pods, at zero when it begins.
pub(super) struct Timeline {
    steps: mpsc::Receiver<(Step, Instant)>,
    _following: [AbortOnDropHandle<()>; 2],
}

impl Timeline {
    /// Returns once both watches are there.
    pub(super) async fn begin(namespace: &Namespace, name: &'static str) -> anyhow::Result<Self> {
        let (told, steps) = mpsc::channel(64);
        let selected = watcher::Config::default().labels(&format!("app={name}"));
        let mut deployments = Box::pin(watching::follow(
            &namespace.api::<Deployment>(),
            watching::named(name),
        ));
        let mut pods = Box::pin(watching::follow(&namespace.api::<Pod>(), selected));
        deployments.next().await.context("the watch ended")??;
        pods.next().await.context("the watch ended")??;
        let tell = told.clone();
        let of_deployment = tokio::spawn(async move {
            let mut deployments = pin!(deployments);
            while let Some(view) = deployments.next().await {
                let Ok(view) = view else { continue };
                let spec = view.get(name).and_then(|found| found.spec.as_ref());
                if spec.and_then(|spec| spec.replicas) > Some(0) {
                    let _ = tell.try_send((Step::Written, Instant::now()));
                }
            }
        });
        let of_pods = tokio::spawn(async move {
            let mut pods = pin!(pods);
            while let Some(view) = pods.next().await {
                let Ok(view) = view else { continue };
                let now = Instant::now();
                for step in view.values().flat_map(reached) {
                    let _ = told.try_send((step, now));
                }
            }
        });
        Ok(Self {
            steps,
            _following: [of_deployment, of_pods].map(AbortOnDropHandle::new),
        })
    }

    /// Returns how long after `begun` each step was first seen, as soon as the last one was.
    pub(super) async fn end(mut self, begun: Instant) -> anyhow::Result<Vec<Duration>> {
        let mut seen = [None; Step::ALL.len()];
        while seen.iter().any(Option::is_none) {
            let told = tokio::time::timeout(watching::PATIENCE, self.steps.recv()).await;
            let (step, at) = told
                .with_context(|| format!("not all steps were seen: {seen:?}"))?
                .context("the watches ended")?;
            seen[step as usize].get_or_insert(at - begun);
        }
        Ok(seen.into_iter().flatten().collect())
    }
}

/// Returns the steps that a pod has behind it.
fn reached(pod: &Pod) -> impl Iterator<Item = Step> {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    let mut states = containers
        .into_iter()
        .flatten()
        .filter_map(|container| container.state.as_ref());
    let reached = [
        (Step::Created, true),
        (Step::Addressed, pods::address(pod).is_some()),
        (Step::Running, states.any(|state| state.running.is_some())),
        (Step::Ready, watching::is_ready(pod)),
    ];
    let reached = reached.into_iter().filter(|(_, reached)| *reached);
    reached.map(|(step, _)| step)
}
