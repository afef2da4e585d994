//! How membership reads `ScaledObject`s and owners, for the index of Services, which reads the same ones.
//!
//! Adds of a `ScaledObject` what only that index asks for: the Services that its triggers name.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource as _, core::DeserializeGuard};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

pub(crate) use super::link::Link;
use super::{
    Paused, ScalerService,
    scaled_object::{ScaledObjectFacts, ScaledObjectObject},
};
use crate::{object::resource, watch::Watched};

/// Key of a trigger's metadata with the names of Services, separated by commas.
const SERVICE: &str = "service";

/// Returns the name of an object.
pub(crate) fn link(api_version: &str, kind: &str, name: &str) -> Link {
    Link::new(api_version, kind, name)
}

/// Returns what controls the object with these metadata.
pub(crate) fn controller(metadata: &ObjectMeta) -> Option<Link> {
    Link::controller(metadata)
}

impl Link {
    /// Returns its API group, kind and name.
    pub(crate) fn parts(&self) -> (&str, &str, &str) {
        (&self.group, &self.kind, &self.name)
    }
}

/// A `ScaledObject` with the Services that its triggers name.
#[derive(Clone, Debug)]
pub(crate) struct ServedObject {
    metadata: ObjectMeta,
    object: ScaledObjectObject,
    /// Scaler addresses of triggers that name Services, each with what it says.
    named: Vec<(String, String)>,
}

impl<'de> Deserialize<'de> for ServedObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let triggers = value["spec"]["triggers"].as_array();
        let named = triggers.into_iter().flatten().filter_map(|trigger| {
            let metadata = &trigger["metadata"];
            let address = metadata["scalerAddress"].as_str()?;
            Some((address.to_owned(), metadata[SERVICE].as_str()?.to_owned()))
        });
        let named = named.collect();
        let object = ScaledObjectObject::deserialize(value).map_err(D::Error::custom)?;
        Ok(Self {
            metadata: object.meta().clone(),
            object,
            named,
        })
    }
}

resource!(
    ServedObject,
    "keda.sh",
    "v1alpha1",
    "scaledobjects",
    "ScaledObject"
);

/// What is kept of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServedFacts {
    facts: ScaledObjectFacts,
    named: Vec<(String, String)>,
}

impl ServedFacts {
    /// Returns its UID.
    pub(crate) fn uid(&self) -> &str {
        &self.facts.uid
    }

    /// Whether, being in `namespace`, it asks `service`.
    pub(crate) fn asks(&self, service: &ScalerService, namespace: &str) -> bool {
        self.facts.asks(service, namespace)
    }

    /// Returns what it scales.
    pub(crate) fn target(&self) -> &Link {
        &self.facts.target
    }

    /// Returns what it keeps KEDA from doing.
    pub(crate) fn paused(&self) -> Paused {
        self.facts.paused
    }

    /// Returns the Services that its triggers which ask `service` name, if any does.
    pub(crate) fn named(&self, service: &ScalerService, namespace: &str) -> Vec<String> {
        let ours = self
            .named
            .iter()
            .filter(|(address, _)| service.is_named_by(address, namespace));
        let mut names: Vec<_> = ours
            .flat_map(|(_, names)| names.split(','))
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl Watched for DeserializeGuard<ServedObject> {
    type Kept = ServedFacts;

    const COMES_WITH: Option<&'static str> = Some("KEDA");

    fn keep(self) -> Result<Self::Kept, String> {
        let ServedObject { object, named, .. } = self.0.map_err(|invalid| invalid.error)?;
        let facts = DeserializeGuard(Ok(object)).keep()?;
        Ok(ServedFacts { facts, named })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ours() -> ScalerService {
        ScalerService {
            name: "scaler".to_owned(),
            namespace: "system".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
        }
    }

    #[test]
    fn services_are_read_of_our_triggers_only() {
        let object = json!({
            "metadata": {"name": "s", "uid": "u", "annotations": {"autoscaling.keda.sh/paused": "true"}},
            "spec": {"scaleTargetRef": {"name": "web"}, "triggers": [
                {"type": "external-push", "metadata": {"scalerAddress": "scaler.system:9090", "service": " web, admin,,web "}},
                {"type": "external-push", "metadata": {"scalerAddress": "other.system:9090", "service": "not-ours"}},
                {"type": "cpu", "metadata": {"service": "no-address"}}]},
        });
        let object: DeserializeGuard<ServedObject> = serde_json::from_value(object).unwrap();
        let facts = object.keep().unwrap();
        assert_eq!(facts.uid(), "u");
        assert!(facts.asks(&ours(), "shop") && facts.paused().entirely);
        assert_eq!(facts.target().parts(), ("apps", "Deployment", "web"));
        assert_eq!(facts.named(&ours(), "shop"), ["admin", "web"]);
    }

    #[test]
    fn one_that_is_not_as_expected_says_why() {
        let object = json!({"metadata": {"name": "s"}, "spec": {"triggers": []}});
        let object: DeserializeGuard<ServedObject> = serde_json::from_value(object).unwrap();
        let error = object.keep().unwrap_err();
        assert!(error.contains("scaleTargetRef"), "{error}");
    }
}
