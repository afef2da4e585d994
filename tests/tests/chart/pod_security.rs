//! What the Pod Security level `restricted` asks of a pod, and a read-only root, which is ours to ask.
//!
//! Of the pods of Deployments as the chart writes them; an API server judges any pod.

use serde_json::Value;

/// The kinds of volumes that the level allows.
const VOLUMES: [&str; 7] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "projected",
    "secret",
];

/// Returns what a pod's specification has that it must not have, or lacks; nothing when it may run.
pub(crate) fn violations(pod: &Value) -> Vec<String> {
    let mut violations = Vec::new();
    let mut refuse = |wrong: bool, what: String| {
        if wrong {
            violations.push(what);
        }
    };
    for host in ["hostNetwork", "hostPID", "hostIPC"] {
        refuse(pod[host] == true, format!("{host} is set"));
    }
    for volume in list(&pod["volumes"]) {
        let allowed = VOLUMES.iter().any(|kind| volume.get(kind).is_some());
        refuse(
            !allowed,
            format!("a volume of a kind that is not allowed: {volume}"),
        );
    }
    let context = &pod["securityContext"];
    refuse(
        context.get("sysctls").is_some(),
        "sysctls are set".to_owned(),
    );
    let containers = [&pod["containers"], &pod["initContainers"]];
    refuse(list(containers[0]).is_empty(), "no container".to_owned());
    for container in containers.into_iter().flat_map(list) {
        let name = container["name"].as_str().unwrap_or_default();
        let own = &container["securityContext"];
        // The container's word counts before the pod's.
        let effective = |field: &str| {
            own.get(field)
                .or(context.get(field))
                .unwrap_or(&Value::Null)
        };
        let mut refuse = |wrong: bool, what: &str| refuse(wrong, format!("{name}: {what}"));
        refuse(own["privileged"] == true, "privileged");
        refuse(
            own["allowPrivilegeEscalation"] != false,
            "allowPrivilegeEscalation is not false",
        );
        refuse(
            effective("runAsNonRoot") != true,
            "runAsNonRoot is not true",
        );
        refuse(*effective("runAsUser") == 0, "runs as root");
        let seccomp = &effective("seccompProfile")["type"];
        refuse(
            seccomp != "RuntimeDefault" && seccomp != "Localhost",
            "no seccomp profile",
        );
        let dropped = list(&own["capabilities"]["drop"]);
        refuse(
            !dropped.iter().any(|capability| **capability == "ALL"),
            "keeps capabilities",
        );
        let added = list(&own["capabilities"]["add"]);
        refuse(
            added
                .iter()
                .any(|capability| **capability != "NET_BIND_SERVICE"),
            "adds capabilities",
        );
        refuse(own.get("procMount").is_some(), "procMount is set");
        refuse(
            own["readOnlyRootFilesystem"] != true,
            "its root can be written",
        );
        let ports = list(&container["ports"]);
        refuse(
            ports.iter().any(|port| port.get("hostPort").is_some()),
            "hostPort is set",
        );
    }
    violations
}

fn list(value: &Value) -> Vec<&Value> {
    value.as_array().into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn restricted() -> Value {
        json!({
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "a",
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
            }],
        })
    }

    #[test]
    fn a_restricted_pod_has_no_violation() {
        assert_eq!(violations(&restricted()), [""; 0]);
    }

    #[test]
    fn each_violation_is_told() {
        let container = "/containers/0/securityContext";
        for (pointer, key, value) in [
            ("", "hostNetwork", json!(true)),
            ("", "hostPID", json!(true)),
            (
                "",
                "volumes",
                json!([{"name": "a", "hostPath": {"path": "/"}}]),
            ),
            ("", "containers", json!([])),
            ("/securityContext", "sysctls", json!([])),
            ("/securityContext", "runAsNonRoot", json!(false)),
            ("/securityContext", "runAsUser", json!(0)),
            (
                "/securityContext",
                "seccompProfile",
                json!({"type": "Unconfined"}),
            ),
            (container, "runAsUser", json!(0)),
            (container, "privileged", json!(true)),
            (container, "allowPrivilegeEscalation", json!(true)),
            (container, "readOnlyRootFilesystem", json!(false)),
            (container, "procMount", json!("Unmasked")),
            (container, "capabilities", json!({"drop": ["NET_RAW"]})),
            (
                container,
                "capabilities",
                json!({"drop": ["ALL"], "add": ["SYS_TIME"]}),
            ),
            ("/containers/0", "ports", json!([{"hostPort": 1}])),
        ] {
            let mut pod = restricted();
            pod.pointer_mut(pointer).unwrap()[key] = value;
            assert_eq!(
                violations(&pod).len(),
                1,
                "{pointer}/{key}: {:?}",
                violations(&pod)
            );
        }
    }
}
