//! Scale targets, pods and `EndpointSlice`s as the watches decode them, and what is kept of them.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::core::PartialObjectMeta;
use serde::Deserialize;

use super::{Family, SERVICE_NAME};
use crate::{
    membership::link::Link,
    object::{resource, slim},
    watch::Watched,
};

/// What pods are made from, as far as Services look at it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Template {
    pub(super) labels: BTreeMap<String, String>,
    /// Named TCP ports, by their names.
    pub(super) ports: BTreeMap<String, u16>,
}

/// What is kept of a Deployment, `StatefulSet` or `ReplicaSet`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TargetFacts {
    pub(super) controller: Option<Link>,
    pub(super) template: Template,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct TargetSpec {
    #[serde(default)]
    template: PodTemplate,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct PodTemplate {
    #[serde(default, deserialize_with = "slim")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: PodSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    restart_policy: Option<String>,
    ports: Option<Vec<ContainerPort>>,
}

#[derive(Clone, Debug, Deserialize)]
struct ContainerPort {
    name: Option<String>,
    protocol: Option<String>,
    #[serde(rename = "containerPort")]
    number: u16,
}

impl PodTemplate {
    fn keep(self) -> Template {
        // A name is looked for in containers and then in native sidecars, and the first that has it wins (`FindPort` of
        // Kubernetes' endpointslice library).
        let sidecars = self.spec.init_containers.into_iter().flatten();
        let sidecars = sidecars.filter(|init| init.restart_policy.as_deref() == Some("Always"));
        let containers = self.spec.containers.into_iter().flatten().chain(sidecars);
        let mut ports = BTreeMap::new();
        for port in containers.flat_map(|container| container.ports.unwrap_or_default()) {
            if let Some(name) = port.name
                && is_tcp(port.protocol.as_deref())
            {
                ports.entry(name).or_insert(port.number);
            }
        }
        Template {
            labels: self.metadata.labels.unwrap_or_default(),
            ports,
        }
    }
}

/// Whether a port with this protocol is a TCP port, which it is if it says nothing.
pub(super) fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol == "TCP")
}

macro_rules! target {
    ($object:ident, $plural:literal, $kind:literal) => {
        #[derive(Clone, Debug, Deserialize)]
        pub(super) struct $object {
            #[serde(default, deserialize_with = "slim")]
            metadata: ObjectMeta,
            #[serde(default)]
            spec: TargetSpec,
        }

        resource!($object, "apps", "v1", $plural, $kind);

        impl Watched for $object {
            type Kept = TargetFacts;

            fn keep(self) -> Result<Self::Kept, String> {
                Ok(TargetFacts {
                    controller: Link::controller(&self.metadata),
                    template: self.spec.template.keep(),
                })
            }
        }
    };
}
target!(DeploymentObject, "deployments", "Deployment");
target!(StatefulSetObject, "statefulsets", "StatefulSet");
target!(ReplicaSetObject, "replicasets", "ReplicaSet");

/// What is kept of a pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PodFacts {
    pub(super) controller: Link,
    pub(super) labels: BTreeMap<String, String>,
}

impl Watched for PartialObjectMeta<Pod> {
    /// Nothing for pods whose labels a template tells, which are nearly all.
    type Kept = Option<PodFacts>;

    fn keep(self) -> Result<Self::Kept, String> {
        let Some(controller) = Link::controller(&self.metadata) else {
            return Ok(None);
        };
        let (group, _, _) = controller.parts();
        if matches!(group, "apps" | "batch") {
            return Ok(None);
        }
        let labels = self.metadata.labels.unwrap_or_default();
        Ok(Some(PodFacts { controller, labels }))
    }
}

/// An `EndpointSlice`'s fields that matter here.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SliceObject {
    #[serde(default, deserialize_with = "slim")]
    metadata: ObjectMeta,
    #[serde(default)]
    address_type: String,
    endpoints: Option<Vec<Endpoint>>,
    ports: Option<Vec<SlicePort>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    conditions: Conditions,
    target_ref: Option<TargetRef>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
struct TargetRef {
    uid: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct SlicePort {
    name: Option<String>,
    port: Option<u16>,
    protocol: Option<String>,
}

resource!(
    SliceObject,
    "discovery.k8s.io",
    "v1",
    "endpointslices",
    "EndpointSlice"
);

/// What is kept of an `EndpointSlice`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SliceFacts {
    pub(super) service: String,
    /// TCP ports: their names and numbers.
    pub(super) ports: Vec<(String, u16)>,
    /// Those that serve and are not terminating: UIDs of pods, and addresses.
    pub(super) backends: Vec<(String, IpAddr)>,
}

impl Watched for SliceObject {
    /// Nothing for a slice of no Service, or of names instead of addresses.
    type Kept = Option<SliceFacts>;

    fn keep(self) -> Result<Self::Kept, String> {
        let mut labels = self.metadata.labels.unwrap_or_default();
        let (Some(service), Some(_)) = (
            labels.remove(SERVICE_NAME),
            Family::parse(&self.address_type),
        ) else {
            return Ok(None);
        };
        let ports = self.ports.into_iter().flatten();
        let ports = ports
            .filter(|port| is_tcp(port.protocol.as_deref()))
            .filter_map(|port| Some((port.name.unwrap_or_default(), port.port?)));
        let endpoints = self.endpoints.into_iter().flatten();
        Ok(Some(SliceFacts {
            service,
            ports: ports.filter(|(_, number)| *number != 0).collect(),
            backends: endpoints.filter_map(backend).collect(),
        }))
    }
}

fn backend(endpoint: Endpoint) -> Option<(String, IpAddr)> {
    let Conditions {
        ready,
        serving,
        terminating,
    } = endpoint.conditions;
    // What is not said is as the API documents it: `serving` is as `ready`, which is true.
    let serves = serving.or(ready).unwrap_or(true) && !terminating.unwrap_or(false);
    // As kube-proxy has it, only the first address counts.
    let address: IpAddr = endpoint.addresses.first()?.parse().ok()?;
    let uid = endpoint.target_ref.and_then(|target| target.uid);
    let uid = uid.unwrap_or_else(|| format!("address {address}"));
    serves.then_some((uid, address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn keep<W: Watched>(object: Value) -> W::Kept {
        serde_json::from_value::<W>(object).unwrap().keep().unwrap()
    }

    #[test]
    fn a_template_tells_labels_and_the_ports_that_have_names() {
        let kept = keep::<DeploymentObject>(json!({
            "metadata": {"name": "web", "namespace": "shop", "labels": {"not": "these"}},
            "spec": {"template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [
                        {"name": "app", "ports": [{"name": "http", "containerPort": 8080}, {"containerPort": 9000}]},
                        {"name": "dns", "ports": [{"name": "dns", "containerPort": 53, "protocol": "UDP"}]}],
                    "initContainers": [
                        {"name": "once", "ports": [{"name": "once", "containerPort": 1}]},
                        {"name": "proxy", "restartPolicy": "Always", "ports": [
                            {"name": "http", "containerPort": 15080}, {"name": "admin", "containerPort": 15000}]}]}}},
        }));
        let expected = TargetFacts {
            controller: None,
            template: Template {
                labels: [("app".to_owned(), "web".to_owned())].into(),
                ports: [("http".to_owned(), 8080), ("admin".to_owned(), 15000)].into(),
            },
        };
        assert_eq!(kept, expected);
        let empty = keep::<StatefulSetObject>(
            json!({"metadata": {"name": "db"}, "spec": {"template": {}}}),
        );
        assert_eq!(empty.template, Template::default());
    }

    #[test]
    fn labels_are_kept_of_pods_that_no_template_speaks_for() {
        let pod = |api_version, kind| {
            let owner = json!({"apiVersion": api_version, "kind": kind, "name": "o", "uid": "u", "controller": true});
            let metadata =
                json!({"name": "p", "labels": {"app": "web"}, "ownerReferences": [owner]});
            let pod = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata});
            keep::<PartialObjectMeta<Pod>>(pod)
        };
        assert_eq!(pod("apps/v1", "ReplicaSet"), None);
        assert_eq!(pod("batch/v1", "Job"), None);
        let kept = pod("example.com/v1", "Web").unwrap();
        assert_eq!(kept.controller.parts(), ("example.com", "Web", "o"));
        assert_eq!(kept.labels["app"], "web");
        let alone = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "p"}});
        assert_eq!(keep::<PartialObjectMeta<Pod>>(alone), None);
    }

    #[test]
    fn of_a_slice_are_kept_those_that_serve_and_stay() {
        let endpoint = |address: &str, conditions: Value| json!({"addresses": [address, "10.9.9.9"], "conditions": conditions});
        let kept = keep::<SliceObject>(json!({
            "metadata": {"name": "web-x", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"port": 1}, {"name": "all"},
                      {"name": "dns", "port": 53, "protocol": "UDP"}],
            "endpoints": [
                {"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "uid": "u1"}},
                endpoint("10.0.0.2", json!({"ready": false, "serving": true, "terminating": true})),
                endpoint("10.0.0.3", json!({"ready": true, "serving": false})),
                endpoint("10.0.0.4", json!({"ready": false})),
                endpoint("10.0.0.5", json!({"ready": true})),
                {"addresses": []}],
        }));
        let expected = SliceFacts {
            service: "web".to_owned(),
            ports: vec![("http".to_owned(), 8080), (String::new(), 1)],
            backends: vec![
                ("u1".to_owned(), [10, 0, 0, 1].into()),
                ("address 10.0.0.5".to_owned(), [10, 0, 0, 5].into()),
            ],
        };
        assert_eq!(kept, Some(expected));
    }

    #[test]
    fn slices_of_no_service_or_of_names_tell_nothing() {
        let labels = json!({"kubernetes.io/service-name": "web"});
        let named = json!({"metadata": {"name": "s", "labels": labels}, "addressType": "FQDN", "endpoints": []});
        assert_eq!(keep::<SliceObject>(named), None);
        let nobodys = json!({"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": null, "ports": null});
        assert_eq!(keep::<SliceObject>(nobodys), None);
    }
}
