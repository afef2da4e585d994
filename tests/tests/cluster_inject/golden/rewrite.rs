//! Golden pods as they are under this installation, and as Pod Security wants them.

use serde_json::{Value, json};
use stillwake_e2e::cluster::pods::{REDIRECT, SIDECAR};

/// The image of the sidecar in golden files.
const GOLDEN: &str = "docker.io/stillwake/stillwake-sidecar:golden";

/// How long an app is delayed, in golden files and by the chart's default.
const STOP_DELAY: u32 = 2;

/// What only the installation knows, in place of what golden files say.
pub(super) struct Installed {
    pub(super) image: String,
    pub(super) aggregators: String,
    pub(super) activator: String,
    pub(super) authorities: String,
    /// Whether the webhook takes this Kubernetes for one whose hooks may sleep.
    pub(super) sleeps: bool,
}

impl Installed {
    /// Returns a pod of a golden file as it is here.
    pub(super) fn rewrite(&self, pod: &Value) -> Value {
        let mut pod = pod.clone();
        // Pods that come to an end of their own do not go on for the sake of late connections.
        let lingers = matches!(pod["spec"]["restartPolicy"].as_str(), None | Some("Always"));
        if !self.sleeps {
            containers(&mut pod).for_each(forget_delay);
        }
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
            if container["name"] == SIDECAR && lingers {
                self.introduce_activator(container);
            }
        }
        pod
    }

    /// Adds what golden files have only where a case is about it.
    fn introduce_activator(&self, sidecar: &mut Value) {
        let Some(environment) = sidecar["env"].as_array_mut() else {
            return;
        };
        let mut names = environment.iter().map(|variable| &variable["name"]);
        let Some(control) = names.position(|name| name == "STILLWAKE_SIDECAR_CONTROL") else {
            return;
        };
        let added = [
            ("STILLWAKE_SIDECAR_ACTIVATOR", self.activator.as_str()),
            ("STILLWAKE_SIDECAR_LINGER", "5s"),
        ];
        let added = added.map(|(name, value)| json!({"name": name, "value": value}));
        for (place, variable) in (control + 1..).zip(added) {
            environment.insert(place, variable);
        }
    }
}

/// Takes away the hook that delays the end of an app.
fn forget_delay(container: &mut Value) {
    let Some(lifecycle) = container["lifecycle"].as_object_mut() else {
        return;
    };
    if lifecycle.get("preStop") == Some(&json!({"sleep": {"seconds": STOP_DELAY}})) {
        lifecycle.remove("preStop");
        if lifecycle.is_empty() {
            container["lifecycle"].take();
        }
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
