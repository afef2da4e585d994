//! Recognises Istio and Linkerd: beside them no port is redirected, and their init containers come before ours.
//!
//! Both may be injected before or after us, so what announces them counts as much as what is there.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use crate::{pod, surroundings::Surroundings};

/// Containers that the meshes add.
const CONTAINERS: [(&str, &str); 6] = [
    ("istio-init", "Istio"),
    ("istio-proxy", "Istio"),
    ("istio-validation", "Istio"),
    ("linkerd-init", "Linkerd"),
    ("linkerd-network-validator", "Linkerd"),
    ("linkerd-proxy", "Linkerd"),
];

fn of(container: &Container) -> Option<&'static str> {
    let mut known = CONTAINERS.iter();
    known
        .find(|(name, _)| *name == container.name)
        .map(|(_, mesh)| *mesh)
}

/// Whether a container belongs to a mesh; its ports are not the app's.
pub(crate) fn owns(container: &Container) -> bool {
    of(container).is_some()
}

/// Returns the mesh that the pod is in or will be in.
pub(crate) fn around(
    pod: &Pod,
    spec: &PodSpec,
    surroundings: &Surroundings,
) -> Option<&'static str> {
    let injected = pod::containers(spec).find_map(of);
    injected
        .or_else(|| istio_announced(pod, surroundings).then_some("Istio"))
        .or_else(|| linkerd_announced(pod, surroundings).then_some("Linkerd"))
}

fn istio_announced(pod: &Pod, surroundings: &Surroundings) -> bool {
    let namespace = |key| surroundings.labels.get(key).map(String::as_str);
    let own = |key| pod::labels(pod).get(key).map(String::as_str);
    // Ambient mode redirects inside the pod's own network as well, and has an opt-out of its own.
    let ambient = own("istio.io/dataplane-mode").or(namespace("istio.io/dataplane-mode"));
    if ambient == Some("ambient") {
        return true;
    }
    let inject = own("sidecar.istio.io/inject").or_else(|| {
        let annotation = pod::annotations(pod).get("sidecar.istio.io/inject");
        annotation.map(String::as_str)
    });
    match inject {
        Some(value) => value == "true",
        None => {
            own("istio.io/rev").is_some()
                || namespace("istio-injection") == Some("enabled")
                || namespace("istio.io/rev").is_some()
        }
    }
}

fn linkerd_announced(pod: &Pod, surroundings: &Surroundings) -> bool {
    let inject = pod::annotations(pod)
        .get("linkerd.io/inject")
        .or_else(|| surroundings.annotations.get("linkerd.io/inject"));
    inject.is_some_and(|value| value != "disabled")
}

/// Returns the place of our init containers: the first one, or after those of a mesh. Then the mesh's proxy runs when
/// the sidecar begins to report, and still runs when the sidecar drains, because sidecars end in reverse order.
pub(crate) fn place(spec: &PodSpec) -> usize {
    let init_containers = spec.init_containers.as_deref().unwrap_or_default();
    init_containers
        .iter()
        .rposition(owns)
        .map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(
        pod: serde_json::Value,
        labels: &[(&str, &str)],
        annotations: &[(&str, &str)],
    ) -> Option<&'static str> {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let owned = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter();
            pairs
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()
        };
        let surroundings = Surroundings {
            labels: owned(labels),
            annotations: owned(annotations),
            ..Surroundings::default()
        };
        around(&pod, pod.spec.as_ref().unwrap(), &surroundings)
    }

    #[test]
    fn a_mesh_is_found_by_its_containers_and_by_what_announces_it() {
        let plain = || json!({"spec": {"containers": [{"name": "web"}]}});
        let with =
            |metadata| json!({"metadata": metadata, "spec": {"containers": [{"name": "web"}]}});
        assert_eq!(found(plain(), &[], &[]), None);
        let proxied = json!({"spec": {"containers": [{"name": "web"}, {"name": "linkerd-proxy"}]}});
        assert_eq!(found(proxied, &[], &[]), Some("Linkerd"));
        let native =
            json!({"spec": {"containers": [], "initContainers": [{"name": "istio-proxy"}]}});
        assert_eq!(found(native, &[], &[]), Some("Istio"));
        for labels in [
            ("istio-injection", "enabled"),
            ("istio.io/rev", "stable"),
            ("istio.io/dataplane-mode", "ambient"),
        ] {
            assert_eq!(found(plain(), &[labels], &[]), Some("Istio"), "{labels:?}");
        }
        let refused = with(json!({"labels": {"sidecar.istio.io/inject": "false"}}));
        assert_eq!(found(refused, &[("istio-injection", "enabled")], &[]), None);
        let asked = with(json!({"labels": {"sidecar.istio.io/inject": "true"}}));
        assert_eq!(found(asked, &[], &[]), Some("Istio"));
        let linkerd = [("linkerd.io/inject", "enabled")];
        assert_eq!(found(plain(), &[], &linkerd), Some("Linkerd"));
        let refused = with(json!({"annotations": {"linkerd.io/inject": "disabled"}}));
        assert_eq!(found(refused, &[], &linkerd), None);
    }
}
