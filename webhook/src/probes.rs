//! Probes and lifecycle hooks that refer to ports: kept working where a name moves, and read for the sidecar's own check.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::{Container, ContainerPort, HTTPGetAction, PodSpec, Probe, TCPSocketAction},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::pod;

/// Gives a TCP port's name to another port of the same container. What refers to it in the container gets the number, as
/// the kubelet and the app mean the app. Returns false, and changes nothing, if the container has no such name.
pub fn move_name(container: &mut Container, name: &str, to: u16) -> bool {
    let Some(ports) = &mut container.ports else {
        return false;
    };
    let port = ports
        .iter_mut()
        .find(|port| port.name.as_deref() == Some(name) && pod::is_tcp(port.protocol.as_ref()));
    let Some(port) = port else {
        return false;
    };
    let number = port.container_port;
    let moved = ContainerPort {
        container_port: to.into(),
        name: port.name.take(),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    ports.push(moved);
    for reference in references(container) {
        if matches!(reference, IntOrString::String(named) if named == name) {
            *reference = IntOrString::Int(number);
        }
    }
    true
}

/// Returns all that refers to a port of this container.
fn references(container: &mut Container) -> impl Iterator<Item = &mut IntOrString> {
    let probes = [
        &mut container.liveness_probe,
        &mut container.readiness_probe,
        &mut container.startup_probe,
    ];
    let probes = probes.into_iter().flatten();
    let of_probes = probes.map(|probe| (&mut probe.http_get, &mut probe.tcp_socket));
    let hooks = container.lifecycle.iter_mut();
    let hooks = hooks.flat_map(|lifecycle| [&mut lifecycle.post_start, &mut lifecycle.pre_stop]);
    let of_hooks = hooks
        .flatten()
        .map(|hook| (&mut hook.http_get, &mut hook.tcp_socket));
    of_probes
        .chain(of_hooks)
        .flat_map(|(http_get, tcp_socket)| {
            let http_get = http_get.iter_mut().map(|action| &mut action.port);
            http_get.chain(tcp_socket.iter_mut().map(|action| &mut action.port))
        })
}

/// Whether the kubelet finds out by a bare connection to `port` of the pod how a container is.
pub(crate) fn tcp_probed(container: &Container, port: u16) -> bool {
    probes(container).any(|probe| {
        let action = probe.tcp_socket.as_ref();
        action.is_some_and(|action| {
            action.host.is_none() && resolve(container, &action.port) == Some(port)
        })
    })
}

fn probes(container: &Container) -> impl Iterator<Item = &Probe> {
    let probes = [
        &container.liveness_probe,
        &container.readiness_probe,
        &container.startup_probe,
    ];
    probes.into_iter().flatten()
}

/// Returns the number of a port that is referred to in a container.
fn resolve(container: &Container, port: &IntOrString) -> Option<u16> {
    match port {
        IntOrString::Int(port) => pod::number(*port),
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            let port = ports.find(|port| port.name.as_ref() == Some(name))?;
            pod::number(port.container_port)
        }
    }
}

/// Returns how the sidecar finds out that the app takes requests, in the form of its variable; `None` leaves it at its
/// default, a connection to the first of the app's ports, which are given.
///
/// The sidecar's word lets requests go to the pod before the kubelet has called it ready, so it must not be easier to
/// please than the kubelet, nor than a connection to a port that no probe speaks for: where it cannot check all of that,
/// it checks nothing, and the pod's own condition decides.
pub fn readiness(spec: &PodSpec, ports: &[u16]) -> Option<String> {
    let default = ports.first().map(|port| format!("tcp:{port}"));
    let gated = spec
        .readiness_gates
        .as_ref()
        .is_some_and(|gates| !gates.is_empty());
    let checks = pod::running(spec).map(|container| checks(container, ports));
    let checks: Option<Vec<_>> = checks.collect();
    let checks: Option<BTreeSet<_>> = checks.map(|checks| checks.into_iter().flatten().collect());
    match checks {
        Some(mut checks) if checks.len() <= 1 && !gated => checks
            .pop_first()
            .filter(|check| Some(check) != default.as_ref()),
        _ => Some("none".to_owned()),
    }
}

/// Returns all that has to hold before a container is ready, `None` if the sidecar cannot check it.
fn checks(container: &Container, ports: &[u16]) -> Option<Vec<String>> {
    let probes = [&container.startup_probe, &container.readiness_probe];
    let probes = probes.into_iter().flatten();
    let mut checks: Vec<_> = probes
        .map(|probe| check(container, probe))
        .collect::<Option<_>>()?;
    if checks.is_empty() {
        let mut declared = pod::tcp_ports(container).map(|(number, _)| number);
        let unspoken = declared.find(|number| ports.contains(number));
        checks.extend(unspoken.map(|port| format!("tcp:{port}")));
    }
    Some(checks)
}

/// Returns a probe as the sidecar can do it.
fn check(container: &Container, probe: &Probe) -> Option<String> {
    if probe.success_threshold.is_some_and(|times| times > 1) {
        return None;
    }
    match (&probe.http_get, &probe.tcp_socket) {
        (Some(action), None) => http_check(container, action),
        (None, Some(action)) => tcp_check(container, action),
        _ => None,
    }
}

fn http_check(container: &Container, action: &HTTPGetAction) -> Option<String> {
    let plain = action
        .scheme
        .as_deref()
        .is_none_or(|scheme| scheme == "HTTP")
        && action.host.is_none()
        && action.http_headers.as_ref().is_none_or(Vec::is_empty);
    let port = resolve(container, &action.port)?;
    let path = action.path.as_deref().unwrap_or_default();
    let path = path.strip_prefix('/').unwrap_or(path);
    let sendable = path.chars().all(|character| character.is_ascii_graphic());
    (plain && sendable).then(|| format!("http:{port}/{path}"))
}

fn tcp_check(container: &Container, action: &TCPSocketAction) -> Option<String> {
    let port = resolve(container, &action.port)?;
    action.host.is_none().then(|| format!("tcp:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn container(value: Value) -> Container {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn every_probe_and_hook_that_used_the_name_gets_the_number() {
        let http = |port: Value| json!({"httpGet": {"port": port, "path": "/"}});
        let tcp = |port: Value| json!({"tcpSocket": {"port": port}});
        let with = |port: &dyn Fn() -> Value, ports: Value| {
            container(json!({
                "name": "web",
                "ports": ports,
                "livenessProbe": http(port()),
                "readinessProbe": tcp(port()),
                "startupProbe": http(json!("admin")),
                "lifecycle": {"postStart": tcp(port()), "preStop": http(port())},
            }))
        };
        let admin = json!({"containerPort": 9090, "name": "admin"});
        let udp = json!({"containerPort": 8080, "name": "quic", "protocol": "UDP"});
        let http = json!({"containerPort": 8080, "name": "http"});
        let mut changed = with(&|| json!("http"), json!([admin, udp, http]));
        assert!(move_name(&mut changed, "http", 15080));
        let unnamed = json!({"containerPort": 8080});
        let moved = json!({"containerPort": 15080, "name": "http", "protocol": "TCP"});
        let expected = with(&|| json!(8080), json!([admin, udp, unnamed, moved]));
        assert_eq!(changed, expected);
        for none in ["https", "quic"] {
            assert!(!move_name(&mut changed, none, 15081), "{none}");
        }
        assert_eq!(changed, expected);
    }

    #[test]
    fn a_tcp_probe_is_found_by_number_and_by_name() {
        let probed = |port: Value| {
            let container = container(json!({
                "name": "web",
                "ports": [{"containerPort": 8080, "name": "http"}],
                "livenessProbe": {"tcpSocket": {"port": port}},
            }));
            tcp_probed(&container, 8080)
        };
        assert!(probed(json!(8080)));
        assert!(probed(json!("http")));
        assert!(!probed(json!(9090)));
    }

    fn checked(spec: Value) -> Option<String> {
        readiness(&serde_json::from_value(spec).unwrap(), &[8080])
    }

    fn checked_by(probe: &Value) -> Option<String> {
        let ports = json!([{"containerPort": 8080, "name": "http"}]);
        checked(json!({"containers": [{"name": "web", "ports": ports, "readinessProbe": probe}]}))
    }

    #[test]
    fn the_sidecar_checks_what_the_kubelet_checks_or_nothing() {
        assert_eq!(checked(json!({"containers": [{"name": "web"}]})), None);
        let expected = |check: &str| Some(check.to_owned());
        let http = |more: Value| {
            let mut action = json!({"port": "http", "path": "/ready?deep=1"});
            action
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            checked_by(&json!({"httpGet": action}))
        };
        assert_eq!(http(json!({})), expected("http:8080/ready?deep=1"));
        assert_eq!(
            http(json!({"scheme": "HTTP", "path": null})),
            expected("http:8080/")
        );
        assert_eq!(http(json!({"scheme": "HTTPS"})), expected("none"));
        assert_eq!(http(json!({"host": "other"})), expected("none"));
        assert_eq!(http(json!({"path": "/a b"})), expected("none"));
        assert_eq!(http(json!({"port": "nowhere"})), expected("none"));
        let header = json!([{"name": "Host", "value": "shop.example"}]);
        assert_eq!(http(json!({"httpHeaders": header})), expected("none"));
        assert_eq!(
            checked_by(&json!({"tcpSocket": {"port": 9090}})),
            expected("tcp:9090")
        );
        assert_eq!(
            checked_by(&json!({"exec": {"command": ["true"]}})),
            expected("none")
        );
        assert_eq!(
            checked_by(&json!({"grpc": {"port": 9090}})),
            expected("none")
        );
        let twice = json!({"tcpSocket": {"port": 9090}, "successThreshold": 2});
        assert_eq!(checked_by(&twice), expected("none"));
    }

    #[test]
    fn several_checks_are_left_to_the_kubelet_unless_they_are_the_same() {
        let probe = |path: &str| json!({"httpGet": {"port": 8080, "path": path}});
        let both = |startup: &str| {
            checked(json!({"containers": [
                {"name": "web", "startupProbe": probe(startup), "readinessProbe": probe("/ready")}
            ]}))
        };
        assert_eq!(both("/ready"), Some("http:8080/ready".to_owned()));
        assert_eq!(both("/started"), Some("none".to_owned()));
        let gated = json!({"containers": [], "readinessGates": [{"conditionType": "x"}]});
        assert_eq!(checked(gated), Some("none".to_owned()));
        let unprobed = json!({"containers": [
            {"name": "web", "ports": [{"containerPort": 8080}]},
            {"name": "proxy", "readinessProbe": probe("/proxy")},
        ]});
        assert_eq!(checked(unprobed), Some("none".to_owned()));
        let alone = json!({"containers": [{"name": "web", "ports": [{"containerPort": 8080}]}]});
        assert_eq!(checked(alone), None);
        let sidecars = json!({"containers": [{"name": "web", "readinessProbe": probe("/ready")}],
            "initContainers": [{"name": "proxy", "restartPolicy": "Always", "readinessProbe": probe("/proxy")}]});
        assert_eq!(checked(sidecars), Some("none".to_owned()));
    }
}
