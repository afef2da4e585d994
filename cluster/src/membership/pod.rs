//! Pods as the watch decodes them, and what is kept of them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::{
    Injection,
    link::Link,
    names::{COUNTED_PORTS, INJECT, SIDECAR, UNCOUNTED_PORTS},
};
use crate::{
    object::{resource, slim},
    watch::Watched,
};

/// A pod's fields that matter here; all others are skipped unread.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct PodObject {
    #[serde(default, deserialize_with = "slim")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    init_containers: Option<Vec<Container>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Container {
    name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Status {
    phase: Option<String>,
    conditions: Option<Vec<Condition>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

resource!(PodObject, "", "v1", "pods", "Pod");

/// What is kept of a pod.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PodFacts {
    pub(super) uid: String,
    pub(super) controller: Option<Link>,
    /// Its Ready condition.
    pub(super) ready: bool,
    /// Whether it is being deleted.
    pub(super) terminating: bool,
    /// Whether its containers have ended for good.
    pub(super) ended: bool,
    pub(super) injection: Injection,
}

impl Watched for PodObject {
    type Kept = PodFacts;

    fn keep(self) -> Result<Self::Kept, String> {
        let Self {
            mut metadata,
            spec,
            status,
        } = self;
        let controller = Link::controller(&metadata);
        let mut conditions = status.conditions.iter().flatten();
        let mut init_containers = spec.init_containers.iter().flatten();
        Ok(PodFacts {
            uid: metadata.uid.take().ok_or("the pod has no UID")?,
            controller,
            ready: conditions
                .any(|condition| condition.kind == "Ready" && condition.status == "True"),
            terminating: metadata.deletion_timestamp.is_some(),
            ended: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            injection: Injection {
                sidecar: init_containers.any(|container| container.name == SIDECAR),
                label: taken(&mut metadata.labels, INJECT),
                counted_ports: taken(&mut metadata.annotations, COUNTED_PORTS),
                uncounted_ports: taken(&mut metadata.annotations, UNCOUNTED_PORTS),
            },
        })
    }
}

fn taken(values: &mut Option<BTreeMap<String, String>>, key: &str) -> Option<String> {
    values.as_mut()?.remove(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn keep(pod: Value) -> PodFacts {
        serde_json::from_value::<PodObject>(pod)
            .unwrap()
            .keep()
            .unwrap()
    }

    #[test]
    fn of_a_pod_is_kept_what_tells_whether_it_counts_and_for_what() {
        let kept = keep(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "web-1", "namespace": "shop", "uid": "u1",
                "labels": {"app": "web", "stillwake.dev/inject": "enabled"},
                "annotations": {
                    "stillwake.dev/counted-ports": "15080:8080", "stillwake.dev/uncounted-ports": "9000: it is UDP",
                },
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "c"},
                    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "r", "controller": true},
                ],
                "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}],
            },
            "spec": {"initContainers": [{"name": "init"}, {"name": "stillwake-sidecar", "restartPolicy": "Always"}],
                     "containers": [{"name": "web"}]},
            "status": {"phase": "Running", "conditions": [{"type": "PodScheduled", "status": "True"},
                                                          {"type": "Ready", "status": "True"}]},
        }));
        let injection = Injection {
            sidecar: true,
            label: Some("enabled".to_owned()),
            counted_ports: Some("15080:8080".to_owned()),
            uncounted_ports: Some("9000: it is UDP".to_owned()),
        };
        let expected = PodFacts {
            uid: "u1".to_owned(),
            controller: Some(Link::new("apps/v1", "ReplicaSet", "web")),
            ready: true,
            terminating: false,
            ended: false,
            injection,
        };
        assert_eq!(kept, expected);
    }

    #[test]
    fn a_pod_that_says_little_is_not_ready_and_has_no_sidecar() {
        let kept = keep(
            json!({"metadata": {"uid": "u"}, "status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
        );
        assert!(!kept.ready && !kept.terminating && !kept.ended);
        assert_eq!(kept.controller, None);
        assert_eq!(kept.injection, Injection::default());
        let nulls = json!({"metadata": {"uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"},
                           "spec": {"initContainers": null}, "status": {"phase": "Failed", "conditions": null}});
        let kept = keep(nulls);
        assert!(kept.terminating && kept.ended);
    }

    #[test]
    fn a_pod_without_a_uid_cannot_be_read() {
        let pod: PodObject = serde_json::from_value(json!({"metadata": {"name": "p"}})).unwrap();
        assert!(pod.keep().unwrap_err().contains("UID"));
    }
}
