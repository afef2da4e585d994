//! Whether a pod gets the sidecar, with the reason in words. Which of its ports is a question for `ports`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::{
    names::{DISABLED, ENABLED, INJECT, REDIRECT, SIDECAR, TOKEN_VOLUME},
    pod,
    warning::{Reason as WarningReason, Warning, shown},
};

/// Annotation of a pod that the kubelet itself runs and only shows to the API server.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Why a pod is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Left {
    /// Neither the pod nor its namespace asks for it.
    #[error("neither the pod nor its namespace has the label {INJECT}={ENABLED}")]
    NotAsked,
    /// The namespace is not among those that are watched.
    #[error("its namespace is not among those that Stillwake was installed for")]
    NotOurs,
    /// The pod refuses.
    #[error("the pod has the label {INJECT}={DISABLED}")]
    Refused,
    /// The sidecar is there.
    #[error("the pod has the sidecar already")]
    AlreadyInjected,
    /// The pod shares the network of its node.
    #[error(
        "the pod uses its node's network, where the sidecar's ports would collide and redirecting would hit the node"
    )]
    HostNetwork,
    /// The pod is for Windows.
    #[error("the pod is for Windows, and the sidecar runs on Linux")]
    Windows,
    /// The kubelet runs the pod from a file.
    #[error("the pod is a static one, which nobody but its kubelet can change")]
    Mirror,
    /// The pod uses a name of ours for something else.
    #[error("the pod has a {kind} of its own called {name}; another name would let the sidecar in")]
    NameTaken {
        /// Container or volume.
        kind: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// There is nothing to count.
    #[error(
        "the pod declares no TCP port and no Service targets one; stillwake.dev/ports can name some"
    )]
    NoPorts,
    /// There is nothing to count, as is usual for a pod that does something and ends.
    #[error("the pod declares no TCP port, no Service targets one, and it runs to its end")]
    RunsOnce,
    /// The API server would refuse the pod, whatever the sidecar took.
    #[error(
        "the LimitRanges of its namespace leave no {0} that the sidecar could have beside the app's"
    )]
    NoRoom(String),
}

impl Left {
    /// Returns the reason as metrics write it.
    pub const fn class(&self) -> &'static str {
        match self {
            Self::NotAsked => "not_asked",
            Self::NotOurs => "not_ours",
            Self::Refused => "refused",
            Self::AlreadyInjected => "already_injected",
            Self::HostNetwork => "host_network",
            Self::Windows => "windows",
            Self::Mirror => "mirror",
            Self::NameTaken { .. } => "name_taken",
            Self::NoPorts => "no_ports",
            Self::RunsOnce => "runs_once",
            Self::NoRoom(_) => "no_room",
        }
    }

    /// Whether somebody who asked for the sidecar would wonder why it is not there.
    pub const fn surprises(&self) -> bool {
        !matches!(
            self,
            Self::NotAsked | Self::NotOurs | Self::Refused | Self::AlreadyInjected | Self::RunsOnce
        )
    }
}

/// Decides whether a pod gets the sidecar; a label that makes no sense is a warning and counts as none.
///
/// # Errors
///
/// Returns why the pod is left as it is.
pub fn decide(
    pod: &Pod,
    spec: &PodSpec,
    namespace_labels: &BTreeMap<String, String>,
    warnings: &mut Vec<Warning>,
) -> Result<(), Left> {
    let own = asked("pod", pod::labels(pod), warnings);
    let namespace = asked("namespace", namespace_labels, warnings);
    match (own, namespace) {
        (Some(true), _) | (None, Some(true)) => {}
        (Some(false), _) => return Err(Left::Refused),
        (None, _) => return Err(Left::NotAsked),
    }
    let mut init_containers = spec.init_containers.iter().flatten();
    if init_containers
        .any(|container| container.name == SIDECAR && pod::is_native_sidecar(container))
    {
        return Err(Left::AlreadyInjected);
    }
    if spec.host_network == Some(true) {
        return Err(Left::HostNetwork);
    }
    if is_windows(spec) {
        return Err(Left::Windows);
    }
    if pod::annotations(pod).contains_key(MIRROR) {
        return Err(Left::Mirror);
    }
    name_taken(spec).map_or(Ok(()), Err)
}

fn asked(
    whose: &str,
    labels: &BTreeMap<String, String>,
    warnings: &mut Vec<Warning>,
) -> Option<bool> {
    let value = labels.get(INJECT)?;
    match value.as_str() {
        ENABLED => Some(true),
        DISABLED => Some(false),
        _ => {
            let message = format!(
                "the {whose}'s label {INJECT} is {}; it takes {ENABLED} or {DISABLED}, and counts as not set",
                shown(value)
            );
            warnings.push(Warning::new(WarningReason::BadValue, message));
            None
        }
    }
}

fn is_windows(spec: &PodSpec) -> bool {
    let selector = spec.node_selector.as_ref();
    spec.os.as_ref().is_some_and(|os| os.name == "windows")
        || selector.is_some_and(|selector| {
            selector.get("kubernetes.io/os").map(String::as_str) == Some("windows")
        })
}

fn name_taken(spec: &PodSpec) -> Option<Left> {
    let container = [SIDECAR, REDIRECT]
        .into_iter()
        .find(|name| pod::containers(spec).any(|container| container.name == *name));
    if let Some(name) = container {
        let kind = "container";
        return Some(Left::NameTaken { kind, name });
    }
    let mut volumes = spec.volumes.iter().flatten();
    volumes
        .any(|volume| volume.name == TOKEN_VOLUME)
        .then_some(Left::NameTaken {
            kind: "volume",
            name: TOKEN_VOLUME,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn decided(pod: Value, namespace: Option<&str>) -> (Result<(), Left>, usize) {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let namespace = namespace.map(|value| (INJECT.to_owned(), value.to_owned()));
        let mut warnings = Vec::new();
        let spec = pod.spec.as_ref().unwrap();
        let decision = decide(&pod, spec, &namespace.into_iter().collect(), &mut warnings);
        (decision, warnings.len())
    }

    fn labelled(value: Option<&str>) -> Value {
        let mut pod =
            json!({"metadata": {"labels": {}}, "spec": {"containers": [{"name": "web"}]}});
        if let Some(value) = value {
            pod["metadata"]["labels"][INJECT] = value.into();
        }
        pod
    }

    #[test]
    fn the_pods_own_label_wins_over_its_namespaces() {
        for (own, namespace, expected, warnings) in [
            (None, None, Err(Left::NotAsked), 0),
            (None, Some("enabled"), Ok(()), 0),
            (None, Some("disabled"), Err(Left::NotAsked), 0),
            (Some("enabled"), None, Ok(()), 0),
            (Some("enabled"), Some("disabled"), Ok(()), 0),
            (Some("disabled"), Some("enabled"), Err(Left::Refused), 0),
            (Some("true"), Some("enabled"), Ok(()), 1),
            (Some("true"), None, Err(Left::NotAsked), 1),
            (None, Some("yes"), Err(Left::NotAsked), 1),
        ] {
            let decision = decided(labelled(own), namespace);
            assert_eq!(decision, (expected, warnings), "{own:?} {namespace:?}");
        }
    }

    #[test]
    fn what_cannot_have_the_sidecar_is_left_with_the_reason() {
        let with = |pointer: &str, value: Value| {
            let mut pod = labelled(Some("enabled"));
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            pod.pointer_mut(parent).unwrap()[key] = value;
            decided(pod, None).0.unwrap_err().class()
        };
        assert_eq!(with("/spec/hostNetwork", json!(true)), "host_network");
        assert_eq!(with("/spec/os", json!({"name": "windows"})), "windows");
        let selector = json!({"kubernetes.io/os": "windows"});
        assert_eq!(with("/spec/nodeSelector", selector), "windows");
        assert_eq!(
            with("/metadata/annotations", json!({MIRROR: "x"})),
            "mirror"
        );
        let ours = json!([{"name": SIDECAR, "restartPolicy": "Always"}]);
        assert_eq!(with("/spec/initContainers", ours), "already_injected");
        let theirs = json!([{"name": SIDECAR}]);
        assert_eq!(with("/spec/initContainers", theirs), "name_taken");
        let theirs = json!([{"name": REDIRECT}]);
        assert_eq!(with("/spec/containers", theirs), "name_taken");
        assert_eq!(
            with("/spec/volumes", json!([{"name": TOKEN_VOLUME}])),
            "name_taken"
        );
    }
}
