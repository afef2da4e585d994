//! Golden pods as they are under this installation, and as Pod Security wants them.

use serde_json::{Value, json};
use stillwake_e2e::cluster::pods::{REDIRECT, SIDECAR};

/// The image of the sidecar in golden files.
const GOLDEN: &str = "docker.io/stillwake/stillwake-sidecar:golden";

/// What only the installation knows, in place of what golden files say.
pub(super) struct Installed {
    pub(super) image: String,
    pub(super) aggregators: String,
    pub(super) authorities: String,
}

impl Installed {
    /// Returns a pod of a golden file as it is here.
    pub(super) fn rewrite(&self, pod: &Value) -> Value {
        let mut pod = pod.clone();
        for container in containers(&mut pod).filter(|container| container["image"] == GOLDEN) {
            container["image"] = json!(self.image);
            container["imagePullPolicy"] = json!("IfNotPresent");
            for variable in container["env"].as_array_mut().into_iter().flatten() {
                let value = match variable["name"].as_str() {
                    Some("STILLWAKE_SIDECAR_AGGREGATORS") => &self.aggregators,
                    Some("STILLWAKE_SIDECAR_AGGREGATOR_CA") => &self.authorities,
                    _ => continue,
                };
                variable["value"] = json!(value);
            }
        }
        pod
    }
}

/// Returns a pod whose own containers have all that Pod Security `restricted` wants of them, where they don't say
/// anything themselves.
pub(super) fn dressed(pod: &Value) -> Value {
    let mut pod = pod.clone();
    for container in containers(&mut pod).filter(|container| !is_ours(container)) {
        if container["securityContext"].is_null() {
            container["securityContext"] = json!({
                "allowPrivilegeEscalation": false,
                "runAsNonRoot": true,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            });
        }
    }
    pod
}

/// Whether a pod has ports redirected by us.
pub(super) fn redirects(pod: &Value) -> bool {
    let mut pod = pod.clone();
    containers(&mut pod).any(|container| container["name"] == REDIRECT)
}

fn containers(pod: &mut Value) -> impl Iterator<Item = &mut Value> {
    let spec = pod["spec"].as_object_mut().into_iter();
    let lists = spec.flat_map(|spec| {
        let fields = spec.iter_mut();
        fields.filter(|(name, _)| ["containers", "initContainers"].contains(&name.as_str()))
    });
    lists.flat_map(|(_, list)| list.as_array_mut().into_iter().flatten())
}

fn is_ours(container: &Value) -> bool {
    [SIDECAR, REDIRECT]
        .iter()
        .any(|name| container["name"] == *name)
}
