//! Sets of values that between them render every line of the chart.

use serde_json::{Value, json};

use super::Release;

/// A release to render.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is special about it.
    pub name: &'static str,
    /// The release.
    pub release: Release,
    /// Whether there are objects of kinds that neither Kubernetes nor KEDA brings along.
    pub needs_other_kinds: bool,
}

/// Returns the sets, for a release in `namespace`, which is also the one that is watched where only some are.
pub fn cases(namespace: &str) -> Vec<Case> {
    let case = |name, needs_other_kinds, values| Case {
        name,
        release: Release {
            namespace: namespace.to_owned(),
            ..Release::with(values)
        },
        needs_other_kinds,
    };
    let mut on_every_node = case(
        "an activator on every node",
        false,
        json!({"activator": {"kind": "DaemonSet"}}),
    );
    // The first that has every kind of which the chart makes use only where it is known.
    "1.30.0".clone_into(&mut on_every_node.release.kubernetes);
    vec![
        case("defaults", false, json!({})),
        case("everything that can be switched off", false, nothing()),
        case("everything that can be set", false, everything(namespace)),
        case(
            "certificates from Secrets",
            false,
            json!({"certificates": {"mode": "secret", "secret": {"webhook": "webhook", "aggregator": "aggregator"}}}),
        ),
        case(
            "certificates from Secrets, published by somebody else",
            false,
            json!({"certificates": {
                "mode": "secret",
                "secret": {"webhook": "webhook", "aggregator": "aggregator", "publishAuthorities": false},
            }}),
        ),
        case(
            "certificates of cert-manager",
            true,
            json!({"certificates": {"mode": "cert-manager"}}),
        ),
        case(
            "certificates of an issuer that exists",
            true,
            json!({"certificates": {
                "mode": "cert-manager",
                "certManager": {"issuerRef": {"name": "company", "kind": "ClusterIssuer"}},
            }}),
        ),
        case("monitors", true, monitors()),
        on_every_node,
        case(
            "no activator",
            false,
            json!({"activator": {"enabled": false}}),
        ),
    ]
}

fn nothing() -> Value {
    let without_account =
        |name| json!({"serviceAccount": {"create": false, "name": name}, "resources": null});
    json!({
        "runAsUser": null,
        "sidecar": {"user": null, "redirect": false, "resources": {"requests": null}},
        "webhook": without_account("injector"),
        "aggregator": without_account("counter"),
        "activator": without_account("holder"),
        "networkPolicy": {"enabled": false},
        "podDisruptionBudget": {"enabled": false},
        "priorityClass": {"create": false},
    })
}

fn everything(namespace: &str) -> Value {
    let component = |more: Value| {
        let mut component = json!({
            "replicas": 3,
            "serviceAccount": {"annotations": {"example.com/role": "any"}},
            "podLabels": {"example.com/team": "web"},
            "podAnnotations": {"example.com/note": "any"},
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "control-plane", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
                "weight": 1,
                "preference": {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]}]},
            }]}},
            "topologySpreadConstraints": [{
                "maxSkew": 2,
                "topologyKey": "example.com/rack",
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"example.com/team": "web"}},
            }],
            "extraArgs": ["--log=debug"],
            "extraEnv": [{"name": "RUST_BACKTRACE", "value": "1"}],
        });
        if let (Some(component), Some(more)) = (component.as_object_mut(), more.as_object()) {
            component.extend(more.clone());
        }
        component
    };
    json!({
        "fullnameOverride": "sleepy",
        "commonLabels": {"example.com/owner": "platform"},
        "image": {"registry": "registry.example.com", "digest": format!("sha256:{}", "0".repeat(64))},
        "imagePullSecrets": [{"name": "registry"}],
        "watchNamespaces": [namespace],
        "clusterDomain": "cluster.example.com",
        "log": {"filter": "info", "format": "json"},
        "drainDelay": "10s",
        // As large as OpenShift's, which are written with an exponent unless somebody takes care.
        "runAsUser": 1_000_650_000,
        "sidecar": {
            "image": {"registry": "", "repository": "sidecar", "tag": "1", "pullPolicy": "Always"},
            "resources": {"requests": {"cpu": 0.5, "memory": 16_777_216}, "limits": {"cpu": "1", "memory": "64Mi"}},
            "user": 1_000_650_000,
            "defaultPodSecurity": "restricted",
            "adminAddress": "0.0.0.0:15090",
            "linger": "8s",
            "stopDelay": "3s",
        },
        "webhook": component(json!({
            "failurePolicy": "Fail",
            "timeoutSeconds": 10,
            "configurationAnnotations": {"example.com/note": "any"},
        })),
        "aggregator": component(json!({"requireTls": true, "clientAuthoritiesSecret": "keda"})),
        "activator": component(json!({
            "copies": 2,
            "ports": {"first": 12_000, "last": 12_999},
            "hold": {"timeout": "30s", "maxHeld": 2_000_000, "maxHeldBytes": 134_217_728},
        })),
        "networkPolicy": {
            "scalerFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}}],
            "adminFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
            "egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}, {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
        },
        "podDisruptionBudget": {"maxUnavailable": "50%"},
        "priorityClass": {"value": 1_000_000_000},
    })
}

fn monitors() -> Value {
    json!({"metrics": {
        "podMonitor": {"enabled": true},
        "serviceMonitor": {"enabled": true},
        "labels": {"release": "prometheus"},
        "interval": "15s",
        "scrapeTimeout": "5s",
        "relabelings": [{"action": "labeldrop", "regex": "pod"}],
        "metricRelabelings": [{"action": "labeldrop", "regex": "pod"}],
    }})
}
