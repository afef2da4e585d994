//! The state of a namespace on a page or two: what is not as it should be, and what Kubernetes said about it.
//!
//! Leaves out what a look at the whole objects tells.

use std::fmt::Write;

use k8s_openapi::api::{
    apps::v1::Deployment,
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::{Event, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Gaps;
use crate::cluster::{Namespace, events};

mod pods;

/// Most events that are told; the newest are.
const MAX_EVENTS: usize = 60;

/// What the summary is made of.
#[derive(Debug, Default)]
struct Facts {
    pods: Vec<Pod>,
    events: Vec<Event>,
    deployments: Vec<Deployment>,
    scaled_objects: Vec<DynamicObject>,
    hpas: Vec<HorizontalPodAutoscaler>,
    services: Vec<Service>,
    slices: Vec<EndpointSlice>,
}

/// Reads the namespace and sums up.
pub(super) async fn gather(namespace: &Namespace, gaps: &mut Gaps) -> String {
    let facts = Facts {
        pods: list(&namespace.api(), "pods", gaps).await,
        events: list(&namespace.api(), "events", gaps).await,
        deployments: list(&namespace.api(), "deployments", gaps).await,
        scaled_objects: list(&namespace.scaled_objects(), "ScaledObjects", gaps).await,
        hpas: list(&namespace.api(), "HPAs", gaps).await,
        services: list(&namespace.api(), "services", gaps).await,
        slices: list(&namespace.api(), "endpointslices", gaps).await,
    };
    facts.text()
}

async fn list<K: Clone + DeserializeOwned + std::fmt::Debug>(
    api: &Api<K>,
    what: &str,
    gaps: &mut Gaps,
) -> Vec<K> {
    let listed = api.list(&ListParams::default()).await;
    let listed = gaps.note_answer(what, listed);
    listed.map(|list| list.items).unwrap_or_default()
}

/// Returns titles with the lines below them.
pub(super) fn sections(sections: &[(&str, String)]) -> String {
    sections
        .iter()
        .fold(String::new(), |mut text, (title, lines)| {
            let lines = if lines.is_empty() { "  none\n" } else { lines };
            writeln!(text, "{title}\n{lines}").expect("writing to a string cannot fail");
            text
        })
}

impl Facts {
    fn text(&self) -> String {
        let all = [
            ("PODS", self.pods.iter().map(pods::text).collect::<String>()),
            ("SCALING", self.scaling()),
            (
                "SERVICES",
                self.services
                    .iter()
                    .map(|service| self.service(service))
                    .collect(),
            ),
            ("WARNINGS, newest last", self.events("Warning")),
            ("OTHER EVENTS, newest last", self.events("Normal")),
        ];
        sections(&all)
    }

    fn scaling(&self) -> String {
        let mut text = String::new();
        for deployment in &self.deployments {
            let spec = deployment.spec.as_ref();
            let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
            let status = deployment.status.clone().unwrap_or_default();
            let title = format!(
                "Deployment {}: {wanted} wanted, {} there, {} ready",
                deployment.name_any(),
                status.replicas.unwrap_or(0),
                status.ready_replicas.unwrap_or(0)
            );
            text += &with_conditions(&title, &json!(status.conditions));
        }
        for object in &self.scaled_objects {
            let mut title = format!("ScaledObject {}", object.name_any());
            for trigger in object.data["spec"]["triggers"]
                .as_array()
                .into_iter()
                .flatten()
            {
                let kind = trigger["type"].as_str().unwrap_or_default();
                let _ = write!(title, ", {kind} {}", trigger["metadata"]);
            }
            text += &with_conditions(&title, &object.data["status"]["conditions"]);
        }
        for hpa in &self.hpas {
            let status = hpa.status.clone().unwrap_or_default();
            let title = format!(
                "HorizontalPodAutoscaler {}: {} now, {} wanted",
                hpa.name_any(),
                status.current_replicas.unwrap_or(0),
                status.desired_replicas
            );
            text += &with_conditions(&title, &json!(status.conditions));
        }
        text
    }

    fn service(&self, service: &Service) -> String {
        let name = service.name_any();
        let address = service
            .spec
            .as_ref()
            .and_then(|spec| spec.cluster_ip.clone());
        let slices = self
            .slices
            .iter()
            .filter(|slice| slice.labels().get("kubernetes.io/service-name") == Some(&name));
        let (mut ready, mut unready) = (Vec::new(), Vec::new());
        for endpoint in slices.flat_map(|slice| &slice.endpoints) {
            let conditions = endpoint.conditions.as_ref();
            let is_ready = conditions.and_then(|conditions| conditions.ready) != Some(false);
            let side = if is_ready { &mut ready } else { &mut unready };
            side.extend(endpoint.addresses.iter().cloned());
        }
        let told = |addresses: Vec<String>| {
            if addresses.is_empty() {
                "none".to_owned()
            } else {
                addresses.join(", ")
            }
        };
        let ports = service
            .spec
            .iter()
            .flat_map(|spec| spec.ports.iter().flatten());
        let ports: Vec<_> = ports.map(|port| port.port.to_string()).collect();
        format!(
            "  {name} {} port {}: endpoints ready: {}; not ready: {}\n",
            address.unwrap_or_default(),
            ports.join(", "),
            told(ready),
            told(unready)
        )
    }

    fn events(&self, kind: &str) -> String {
        let mut told: Vec<_> = self
            .events
            .iter()
            .filter(|event| event.type_.as_deref() == Some(kind))
            .map(|event| (events::last_time(event), event))
            .collect();
        told.sort_by_key(|(time, _)| *time);
        let skipped = told.len().saturating_sub(MAX_EVENTS);
        let mut text = String::new();
        for (time, event) in told.into_iter().skip(skipped) {
            let time = time.map_or_else(
                || "--:--:--".to_owned(),
                |time| time.strftime("%H:%M:%S").to_string(),
            );
            let times = match events::times(event) {
                1 => String::new(),
                times => format!(" ({times} times)"),
            };
            let about = &event.involved_object;
            writeln!(
                text,
                "  {time}  {} {}: {}{times}: {}",
                about.kind.as_deref().unwrap_or_default(),
                about.name.as_deref().unwrap_or_default(),
                event.reason.as_deref().unwrap_or_default(),
                event.message.as_deref().unwrap_or_default().trim()
            )
            .expect("writing to a string cannot fail");
        }
        text
    }
}

/// Returns a line about an object, and one about each of its conditions, which all kinds write alike.
fn with_conditions(title: &str, conditions: &Value) -> String {
    let mut text = format!("  {title}\n");
    for condition in conditions.as_array().into_iter().flatten() {
        let field = |name: &str| condition[name].as_str().unwrap_or_default();
        let (kind, status) = (field("type"), field("status"));
        let (reason, message) = (field("reason"), field("message"));
        writeln!(text, "    {kind} {status}, {reason}: {message}")
            .expect("writing to a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests;
