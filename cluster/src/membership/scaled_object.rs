//! `ScaledObject`s as the watches decode them, read by KEDA's rules. For membership and for the index of Services.
//!
//! Those are in KEDA's `apis/keda/v1alpha1`: the defaults of the scale target in `gvkr.go`, pausing and the most replicas in
//! `scaledobject_types.go`, the polling interval in `withtriggers_types.go`.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DeserializeGuard;
use serde::Deserialize;

use super::{Paused, ScalerService, link::Link};
use crate::{
    object::{resource, slim},
    watch::Watched,
};

/// What KEDA takes for a `pollingInterval` that is not there.
const DEFAULT_POLLING_INTERVAL: Duration = Duration::from_secs(30);

/// And for a `maxReplicaCount`.
const DEFAULT_MAX_REPLICAS: u32 = 100;

/// Key of a trigger's metadata with the names of Services, separated by commas.
const SERVICE: &str = "service";

/// A `ScaledObject`'s fields that matter here.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ScaledObjectObject {
    #[serde(default, deserialize_with = "slim")]
    metadata: ObjectMeta,
    spec: Spec,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    scale_target_ref: ScaleTarget,
    polling_interval: Option<u32>,
    max_replica_count: Option<u32>,
    #[serde(default)]
    triggers: Vec<Trigger>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScaleTarget {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    name: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Trigger {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

resource!(
    ScaledObjectObject,
    "keda.sh",
    "v1alpha1",
    "scaledobjects",
    "ScaledObject"
);

/// What is kept of a `ScaledObject`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ScaledObjectFacts {
    pub(crate) uid: String,
    pub(crate) target: Link,
    pub(super) polling_interval: Duration,
    pub(super) max_replicas: u32,
    pub(crate) paused: Paused,
    pub(super) scalers: Vec<Scaler>,
}

/// What is kept of an external trigger.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Scaler {
    pub(super) address: String,
    /// The Services that it names, as it writes them.
    pub(super) services: String,
}

impl ScaledObjectFacts {
    /// Whether, being in `namespace`, it asks `service`.
    pub(crate) fn asks(&self, service: &ScalerService, namespace: &str) -> bool {
        self.asking(service, namespace).next().is_some()
    }

    /// Returns the Services that its triggers which ask `service` name, if any does.
    pub(crate) fn named(&self, service: &ScalerService, namespace: &str) -> Vec<String> {
        let mut names: Vec<_> = self
            .asking(service, namespace)
            .flat_map(|scaler| scaler.services.split(','))
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn asking(&self, service: &ScalerService, namespace: &str) -> impl Iterator<Item = &Scaler> {
        let scalers = self.scalers.iter();
        scalers.filter(move |scaler| service.is_named_by(&scaler.address, namespace))
    }
}

// Validated by whatever schema is installed for it, so one that is not as expected is possible.
impl Watched for DeserializeGuard<ScaledObjectObject> {
    type Kept = ScaledObjectFacts;

    const COMES_WITH: Option<&'static str> = Some("KEDA");

    fn keep(self) -> Result<Self::Kept, String> {
        let ScaledObjectObject { metadata, spec } = self.0.map_err(|invalid| invalid.error)?;
        let target = &spec.scale_target_ref;
        let or = |value: &'_ str, default: &'static str| match value {
            "" => default.to_owned(),
            value => value.to_owned(),
        };
        let api_version = or(&target.api_version, "apps/v1");
        let interval = spec
            .polling_interval
            .map(|seconds| Duration::from_secs(seconds.max(1).into()));
        let external = spec
            .triggers
            .into_iter()
            .filter(|trigger| matches!(trigger.kind.as_str(), "external-push" | "external"));
        Ok(ScaledObjectFacts {
            uid: metadata.uid.ok_or("the ScaledObject has no UID")?,
            target: Link::new(&api_version, &or(&target.kind, "Deployment"), &target.name),
            polling_interval: interval.unwrap_or(DEFAULT_POLLING_INTERVAL),
            max_replicas: spec.max_replica_count.unwrap_or(DEFAULT_MAX_REPLICAS),
            paused: paused(&metadata.annotations.unwrap_or_default()),
            scalers: external
                .filter_map(|mut trigger| {
                    Some(Scaler {
                        address: trigger.metadata.remove("scalerAddress")?,
                        services: trigger.metadata.remove(SERVICE).unwrap_or_default(),
                    })
                })
                .collect(),
        })
    }
}

fn paused(annotations: &BTreeMap<String, String>) -> Paused {
    let value = |name: &str| annotations.get(&format!("autoscaling.keda.sh/{name}"));
    // Anything that Go does not take for false means true.
    let is_set = |name| {
        value(name).is_some_and(|value| {
            !matches!(
                value.as_str(),
                "0" | "f" | "F" | "false" | "FALSE" | "False"
            )
        })
    };
    let replicas = value("paused-replicas");
    Paused {
        entirely: replicas.is_some() || is_set("paused"),
        replicas: replicas.and_then(|replicas| replicas.parse().ok()),
        scale_in: is_set("paused-scale-in"),
        scale_out: is_set("paused-scale-out"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn keep(object: Value) -> Result<ScaledObjectFacts, String> {
        serde_json::from_value::<DeserializeGuard<ScaledObjectObject>>(object)
            .unwrap()
            .keep()
    }

    fn paused_by(annotations: &Value) -> Paused {
        let object = json!({"metadata": {"name": "s", "uid": "u", "annotations": annotations},
                            "spec": {"scaleTargetRef": {"name": "web"}, "triggers": []}});
        keep(object).unwrap().paused
    }

    #[test]
    fn what_is_not_said_is_as_keda_has_it() {
        let kept = keep(json!({
            "metadata": {"name": "s", "namespace": "n", "uid": "u"},
            "spec": {"scaleTargetRef": {"name": "web"},
                     "triggers": [{"type": "cpu", "metadata": {"value": "60", "scalerAddress": "not-external:1"}},
                                  {"type": "external", "metadata": {"scalerAddress": "a:1"}},
                                  {"type": "external-push", "metadata": {"scalerAddress": "b:1", "service": "x,y"}},
                                  {"type": "external-push", "metadata": {}},
                                  {"type": "cron"}]},
        }));
        let expected = ScaledObjectFacts {
            uid: "u".to_owned(),
            target: Link::new("apps/v1", "Deployment", "web"),
            polling_interval: Duration::from_secs(30),
            max_replicas: 100,
            paused: Paused::default(),
            scalers: vec![
                Scaler {
                    address: "a:1".to_owned(),
                    services: String::new(),
                },
                Scaler {
                    address: "b:1".to_owned(),
                    services: "x,y".to_owned(),
                },
            ],
        };
        assert_eq!(kept.unwrap(), expected);
    }

    #[test]
    fn services_are_read_of_our_triggers_only() {
        let kept = keep(json!({
            "metadata": {"name": "s", "uid": "u"},
            "spec": {"scaleTargetRef": {"name": "web"}, "triggers": [
                {"type": "external-push", "metadata": {"scalerAddress": "scaler.system:9090", "service": " web, admin,,web "}},
                {"type": "external-push", "metadata": {"scalerAddress": "other.system:9090", "service": "not-ours"}},
                {"type": "cpu", "metadata": {"service": "no-address"}}]},
        }));
        let ours = ScalerService {
            name: "scaler".to_owned(),
            namespace: "system".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
        };
        assert_eq!(kept.unwrap().named(&ours, "shop"), ["admin", "web"]);
    }

    #[test]
    fn a_target_may_be_of_any_kind() {
        let target = |target: Value| {
            let object = json!({"metadata": {"uid": "u"}, "spec": {"scaleTargetRef": target, "pollingInterval": 5, "maxReplicaCount": 7}});
            let kept = keep(object).unwrap();
            assert_eq!(kept.polling_interval, Duration::from_secs(5));
            assert_eq!(kept.max_replicas, 7);
            kept.target
        };
        let rollout =
            json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "web"});
        assert_eq!(
            target(rollout),
            Link::new("argoproj.io/v1", "Rollout", "web")
        );
        let set = json!({"kind": "StatefulSet", "name": "db"});
        assert_eq!(target(set), Link::new("apps/v1", "StatefulSet", "db"));
    }

    #[test]
    fn pausing_follows_keda() {
        assert_eq!(paused_by(&json!({})), Paused::default());
        let entirely = Paused {
            entirely: true,
            ..Paused::default()
        };
        assert_eq!(
            paused_by(&json!({"autoscaling.keda.sh/paused": "true"})),
            entirely
        );
        assert_eq!(
            paused_by(&json!({"autoscaling.keda.sh/paused": "yes please"})),
            entirely
        );
        assert_eq!(
            paused_by(&json!({"autoscaling.keda.sh/paused": "False"})),
            Paused::default()
        );
        let at_zero = Paused {
            entirely: true,
            replicas: Some(0),
            ..Paused::default()
        };
        let both = json!({"autoscaling.keda.sh/paused": "false", "autoscaling.keda.sh/paused-replicas": "0"});
        assert_eq!(paused_by(&both), at_zero);
        let one_way = Paused {
            scale_out: true,
            ..Paused::default()
        };
        let annotations = json!({"autoscaling.keda.sh/paused-scale-out": "true", "autoscaling.keda.sh/paused-scale-in": "f"});
        assert_eq!(paused_by(&annotations), one_way);
    }

    #[test]
    fn one_that_is_not_as_expected_says_why() {
        let error = keep(json!({"metadata": {"name": "s"}, "spec": {"triggers": []}})).unwrap_err();
        assert!(error.contains("scaleTargetRef"), "{error}");
    }
}
