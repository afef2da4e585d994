//! Names of simulated pods and the workloads they belong to, alike for all who take part.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stillwake_aggregator::{MembershipEvent, Pod, ScaledObject};
use stillwake_proto::{
    report::Workload,
    scaler::{GetMetricsRequest, ScaledObjectRef},
};

/// The namespace of everything.
pub const NAMESPACE: &str = "bench";

/// So many workloads with equally many pods each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    /// How many workloads, each with a `ScaledObject`.
    pub workloads: usize,
    /// How many pods each has.
    pub pods_each: usize,
    /// How often KEDA is said to ask. A workload is inactive twice that after its last request.
    pub polling_interval: Duration,
}

impl Fleet {
    /// Returns a fleet of `pods`, ten to a workload, with KEDA's polling interval.
    pub const fn of_pods(pods: usize) -> Self {
        Self {
            workloads: pods / 10,
            pods_each: 10,
            polling_interval: Duration::from_secs(30),
        }
    }

    /// How many pods there are.
    pub const fn pods(&self) -> usize {
        self.workloads * self.pods_each
    }

    /// Name of a workload and of its `ScaledObject`.
    pub fn name(index: usize) -> String {
        format!("web-{index}")
    }

    /// A workload.
    pub fn workload(index: usize) -> Workload {
        Workload {
            namespace: NAMESPACE.to_owned(),
            kind: "Deployment".to_owned(),
            name: Self::name(index),
        }
    }

    /// The workload's number that a pod belongs to.
    pub const fn workload_of(&self, pod: usize) -> usize {
        pod / self.pods_each
    }

    /// UID and name of a pod.
    pub fn pod(index: usize) -> String {
        format!("pod-{index}")
    }

    /// All there is to tell an aggregator.
    pub fn membership(self) -> impl Iterator<Item = MembershipEvent> {
        let objects = (0..self.workloads).map(move |index| {
            MembershipEvent::ScaledObject(ScaledObject {
                namespace: NAMESPACE.to_owned(),
                name: Self::name(index),
                workload: Self::workload(index),
                polling_interval: self.polling_interval,
                max_replicas: 100,
                paused: false,
            })
        });
        let pods = (0..self.pods()).map(move |index| {
            MembershipEvent::Pod(Pod {
                uid: Self::pod(index),
                name: Self::pod(index),
                workload: Self::workload(self.workload_of(index)),
                ready: true,
                terminating: false,
                reports: true,
            })
        });
        objects.chain(pods).chain([MembershipEvent::Synced])
    }

    /// What KEDA says of a workload, with this window.
    pub fn reference(index: usize, window: Duration) -> ScaledObjectRef {
        let metadata = [
            ("targetConcurrency", "20".to_owned()),
            ("targetRequestRate", "1000".to_owned()),
            ("window", format!("{}s", window.as_secs())),
        ];
        ScaledObjectRef {
            name: Self::name(index),
            namespace: NAMESPACE.to_owned(),
            scaler_metadata: metadata.map(|(key, value)| (key.to_owned(), value)).into(),
        }
    }

    /// What KEDA asks for one of a workload's metrics.
    pub fn request(index: usize, window: Duration, metric: &str) -> GetMetricsRequest {
        GetMetricsRequest {
            scaled_object_ref: Some(Self::reference(index, window)),
            metric_name: metric.to_owned(),
        }
    }
}
