//! `ScaledObject`s with Stillwake's trigger, what KEDA makes of them, and what the aggregators say of them.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{
    Namespace, keda,
    stillwake::{Component, Stillwake},
    watching,
};

/// A `ScaledObject` of a workload of the same name.
#[derive(Clone, Debug)]
pub struct Scaling {
    /// What both are called.
    pub name: String,
    /// The workload's kind, of the API group `apps`.
    pub kind: String,
    /// `minReplicaCount`.
    pub min: usize,
    /// `maxReplicaCount`.
    pub max: usize,
    /// `pollingInterval`, in whole seconds.
    pub polling: Duration,
    /// `cooldownPeriod`, in whole seconds.
    pub cooldown: Duration,
    /// The trigger's metadata; `scalerAddress` is Stillwake's where it is not in there.
    pub metadata: BTreeMap<String, String>,
    /// The `TriggerAuthentication` of the trigger.
    pub authentication: Option<String>,
    /// Triggers besides ours.
    pub others: Vec<Value>,
    /// The HPA's behavior; `{}` is Kubernetes' own.
    pub behavior: Value,
}

impl Scaling {
    /// Returns one with metadata, which scales up as fast as the HPA can, between 1 and 10 replicas.
    pub fn new(name: &str, metadata: &[(&str, &str)]) -> Self {
        let metadata = metadata.iter();
        let metadata = metadata.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Self {
            name: name.to_owned(),
            kind: "Deployment".to_owned(),
            min: 1,
            max: 10,
            polling: Duration::from_secs(5),
            cooldown: Duration::from_secs(10),
            metadata: metadata.collect(),
            authentication: None,
            others: Vec::new(),
            behavior: json!({}),
        }
    }

    /// Applies it, and returns once KEDA has found its metrics.
    ///
    /// # Errors
    ///
    /// When it is refused, or KEDA does not get an answer.
    pub async fn start(&self, namespace: &Namespace, stillwake: &Stillwake) -> anyhow::Result<()> {
        self.apply(namespace, stillwake).await?;
        self.metrics(namespace).await.map(drop)
    }

    /// Applies it, and leaves open what becomes of it.
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub async fn apply(&self, namespace: &Namespace, stillwake: &Stillwake) -> anyhow::Result<()> {
        let mut metadata = self.metadata.clone();
        let ours = || stillwake.scaler_address();
        metadata
            .entry("scalerAddress".to_owned())
            .or_insert_with(ours);
        let mut ours = json!({"type": "external-push", "metadata": metadata});
        if let Some(name) = &self.authentication {
            ours["authenticationRef"] = json!({"name": name});
        }
        let triggers: Vec<_> = [ours].into_iter().chain(self.others.clone()).collect();
        let values = [
            ("name", self.name.clone()),
            ("kind", self.kind.clone()),
            ("min", self.min.to_string()),
            ("max", self.max.to_string()),
            ("polling", self.polling.as_secs().to_string()),
            ("cooldown", self.cooldown.as_secs().to_string()),
            ("triggers", json!(triggers).to_string()),
            ("behavior", self.behavior.to_string()),
        ];
        let values = values
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        let manifest = include_str!("manifests/scaled-object.yaml");
        namespace.apply(manifest, &values).await
    }

    /// Waits until KEDA has found its metrics, and returns their names as the HPA asks for them.
    ///
    /// # Errors
    ///
    /// When KEDA finds none, with its status.
    pub async fn metrics(&self, namespace: &Namespace) -> anyhow::Result<Vec<String>> {
        let objects = namespace.scaled_objects();
        watching::until(&objects, &self.name, "readiness", |object| {
            let object = object.ok_or("there is none")?;
            let names = &object.data["status"]["externalMetricNames"];
            let names: Vec<String> = serde_json::from_value(names.clone()).unwrap_or_default();
            match keda::condition(object, "Ready") {
                Some(("True", _)) if !names.is_empty() => Ok(names),
                _ => Err(object.data["status"].to_string()),
            }
        })
        .await
    }
}

/// Returns the value of a metric of a `ScaledObject` as KEDA tells it to the HPA.
///
/// # Errors
///
/// When KEDA has none.
pub async fn external_metric(
    namespace: &Namespace,
    scaled_object: &str,
    metric: &str,
) -> anyhow::Result<f64> {
    let path = format!(
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/{metric}?labelSelector=scaledobject.keda.sh%2Fname%3D{scaled_object}",
        namespace.name()
    );
    let request = http::Request::get(path).body(Vec::new())?;
    let list: Value = namespace.cluster().client().request(request).await?;
    let values = list["items"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    ensure!(values.len() == 1, "{metric} has not one value: {list}");
    let text = values[0]["value"].as_str().unwrap_or_default();
    quantity(text).with_context(|| format!("{metric} has no number: {list}"))
}

/// Reads a quantity as the metrics' API writes it: thousandths, or powers of a thousand.
fn quantity(text: &str) -> Option<f64> {
    let end = text.find(|character: char| character.is_ascii_alphabetic());
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let number: f64 = number.parse().ok()?;
    let factor = match unit {
        "" => 1.0,
        "m" => 0.001,
        "k" => 1e3,
        "M" => 1e6,
        _ => return None,
    };
    Some(number * factor)
}

/// Returns what each ready aggregator says of a `ScaledObject`, as in its `/debug/state`.
///
/// # Errors
///
/// When one of them does not answer, or does not know it.
pub async fn seen(
    stillwake: &Stillwake,
    namespace: &Namespace,
    scaled_object: &str,
) -> anyhow::Result<Vec<Value>> {
    let states = stillwake.states(Component::Aggregator).await?.into_iter();
    let seen = states.map(|(replica, state)| {
        let objects = state["scaled_objects"].as_array().into_iter().flatten();
        let mut ours = objects.filter(|object| {
            object["namespace"] == namespace.name() && object["name"] == scaled_object
        });
        let found = ours.next().cloned();
        found.with_context(|| format!("{replica} does not know {scaled_object}"))
    });
    seen.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_with_their_units() {
        for (text, expected) in [
            ("40", Some(40.0)),
            ("39900m", Some(39.9)),
            ("2k", Some(2000.0)),
            ("1Ki", None),
            ("", None),
        ] {
            assert_eq!(quantity(text), expected, "{text:?}");
        }
    }
}
