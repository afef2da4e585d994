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
        let stop_delay = stop_delay(&pod);
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
                self.introduce_activator(container, stop_delay);
            }
        }
        pod
    }

    /// Adds what golden files have only where a case is about it.
    fn introduce_activator(&self, sidecar: &mut Value, stop_delay: Option<u64>) {
        let Some(environment) = sidecar["env"].as_array_mut() else {
            return;
        };
        let mut names = environment.iter().map(|variable| &variable["name"]);
        let Some(control) = names.position(|name| name == "STILLWAKE_SIDECAR_CONTROL") else {
            return;
        };
        let stop_delay = stop_delay.map(|seconds| format!("{seconds}s"));
        let added = [
            ("STILLWAKE_SIDECAR_ACTIVATOR", Some(self.activator.as_str())),
            ("STILLWAKE_SIDECAR_LINGER", Some("5s")),
            ("STILLWAKE_SIDECAR_STOP_DELAY", stop_delay.as_deref()),
        ];
        let added = added.into_iter().filter_map(|(name, value)| {
            let value = value?;
            Some(json!({"name": name, "value": value}))
        });
        for (place, variable) in (control + 1..).zip(added) {
            environment.insert(place, variable);
        }
    }
}

/// Returns for how many seconds all containers sleep that serve what is counted, before the first of them is told to stop.
fn stop_delay(pod: &Value) -> Option<u64> {
    let all = pod["spec"]["containers"].as_array()?;
    let sidecars = pod["spec"]["initContainers"].as_array();
    let sidecar = sidecars
        .into_iter()
        .flatten()
        .find(|container| container["name"] == SIDECAR)?;
    let variables = sidecar["env"].as_array()?;
    let ports = variables
        .iter()
        .find(|variable| variable["name"] == "STILLWAKE_SIDECAR_PORTS")?;
    let apps = ports["value"].as_str()?.split(',');
    let apps: Vec<_> = apps.filter_map(|pair| pair.split_once(':')).collect();
    let declares = |container: &Value| {
        let ports = container["ports"].as_array();
        ports.into_iter().flatten().any(|port| {
            let number = port["containerPort"].to_string();
            matches!(port["protocol"].as_str(), None | Some("TCP"))
                && apps.iter().any(|(_, app)| *app == number)
        })
    };
    let alone = all.len() == 1 && !all.iter().any(declares);
    let serving = all.iter().filter(|container| alone || declares(container));
    let delays: Option<Vec<_>> = serving
        .map(|container| container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64())
        .collect();
    delays?.into_iter().min()
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
