//! The configuration files of a node's components.
//!
//! Settings that look odd make a cluster run in a sandbox without a device of its own: without `CAP_SYS_RESOURCE`, with
//! either version of control groups, and with no way out.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};

use crate::{
    addons, cgroups, components, files,
    network::{self, Families, NodeNetwork},
    pki::{Identity, Pki},
};

/// Where a node's configuration lies.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    node: PathBuf,
    administrator: PathBuf,
    group: String,
}

impl Files {
    /// Below the node's folder; the administrator's kubeconfig and the control group are the whole cluster's.
    pub(crate) fn new(node: PathBuf, administrator: PathBuf, group: String) -> Self {
        Self {
            node,
            administrator,
            group,
        }
    }

    pub(crate) fn node(&self) -> &Path {
        &self.node
    }

    pub(crate) fn administrator(&self) -> &Path {
        &self.administrator
    }

    pub(crate) fn containerd(&self) -> PathBuf {
        self.node.join("configuration/containerd.toml")
    }

    pub(crate) fn kubelet(&self) -> PathBuf {
        self.node.join("configuration/kubelet.yaml")
    }

    pub(crate) fn proxy(&self) -> PathBuf {
        self.node.join("configuration/kube-proxy.yaml")
    }

    /// Of a component.
    pub(crate) fn kubeconfig(&self, component: &str) -> PathBuf {
        self.node
            .join(format!("configuration/{component}.kubeconfig"))
    }

    fn network(&self) -> PathBuf {
        self.node.join("configuration/network/10-pods.conflist")
    }

    /// Writes what containerd, kubelet and kube-proxy of a node read.
    pub(crate) fn write_worker(
        &self,
        pki: &Pki,
        node: &NodeNetwork,
        kubernetes: &str,
        api_server: &str,
        plugins: &Path,
        runc: &Path,
    ) -> anyhow::Result<()> {
        files::write(&self.containerd(), self.containerd_toml(plugins, runc))?;
        write_json(&self.network(), &pod_network(node))?;
        write_json(&self.kubelet(), &self.kubelet_configuration(pki, node))?;
        write_json(&self.proxy(), &self.proxy_configuration(node, kubernetes))?;
        write_kubeconfig(
            &self.kubeconfig("kubelet"),
            pki,
            &pki.identity(&node.name),
            api_server,
        )?;
        write_kubeconfig(
            &self.kubeconfig("proxy"),
            pki,
            &pki.identity("proxy"),
            api_server,
        )
    }

    /// Writes what the control plane and the administrator read besides.
    pub(crate) fn write_control_plane(&self, pki: &Pki, api_server: &str) -> anyhow::Result<()> {
        for component in ["controller-manager", "scheduler"] {
            let identity = pki.identity(component);
            write_kubeconfig(&self.kubeconfig(component), pki, &identity, api_server)?;
        }
        write_kubeconfig(
            &self.administrator,
            pki,
            &pki.identity("administrator"),
            api_server,
        )
    }

    fn containerd_toml(&self, plugins: &Path, runc: &Path) -> String {
        format!(
            r#"version = 3
root = "{root}"
state = "/run/containerd"

[grpc]
  address = "{socket}"

[plugins.'io.containerd.internal.v1.opt']
  path = "{node}/containerd-opt"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{pause}"

[plugins.'io.containerd.cri.v1.runtime']
  # A profile would be loaded into the machine's kernel and stay.
  disable_apparmor = true
  # Lowering a score needs CAP_SYS_RESOURCE.
  restrict_oom_score_adj = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["{plugins}"]
  conf_dir = "{network}"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = false
  BinaryName = "{runc}"
"#,
            root = self.node.join("containerd").display(),
            node = self.node.display(),
            socket = components::CONTAINERD,
            pause = addons::image("pause"),
            plugins = plugins.display(),
            network = self.network().parent().unwrap_or(&self.node).display(),
            runc = runc.display(),
        )
    }

    fn kubelet_configuration(&self, pki: &Pki, node: &NodeNetwork) -> Value {
        let serving = pki.identity(&node.name);
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failCgroupV1": false,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": cgroups::of_node(&self.group, &node.name),
            "enforceNodeAllocatable": [],
            "oomScoreAdj": 0,
            "containerRuntimeEndpoint": format!("unix://{}", components::CONTAINERD),
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": pki.authority()},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": serving.certificate,
            "tlsPrivateKeyFile": serving.key,
            "clusterDNS": [network::DNS_SERVICE],
            "clusterDomain": "cluster.local",
            "resolvConf": "/dev/null",
            "failSwapOn": false,
            "maxPods": 200,
            // Images come by hand; one that was collected would never come back.
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {
                "nodefs.available": "1%",
                "imagefs.available": "1%",
                "memory.available": "100Mi",
            },
            "volumePluginDir": self.node.join("kubelet-plugins"),
            "podLogsDir": self.node.join("pod-logs"),
        })
    }

    fn proxy_configuration(&self, node: &NodeNetwork, kubernetes: &str) -> Value {
        // Before 1.31 the mode has to be asked for; later versions don't know the gate any more.
        let feature_gates = match minor(kubernetes) {
            ..31 => json!({"NFTablesProxyMode": true}),
            _ => json!({}),
        };
        json!({
            "featureGates": feature_gates,
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clientConnection": {"kubeconfig": self.kubeconfig("proxy")},
            "hostnameOverride": node.name,
            "clusterCIDR": node.families.pods(),
            "oomScoreAdj": 0,
            // The table's size is the whole machine's: 0 leaves it alone.
            "conntrack": {"maxPerCore": 0, "min": 0},
        })
    }
}

/// The second number of a version.
fn minor(version: &str) -> u32 {
    version
        .split('.')
        .nth(1)
        .and_then(|minor| minor.parse().ok())
        .unwrap_or(u32::MAX)
}

/// Pods are routed, not bridged: what goes to a Service and back then passes the node's rules on both ways, without
/// a kernel module that makes bridges ask them.
fn pod_network(node: &NodeNetwork) -> Value {
    let ranges = node.pods.iter().map(|pods| json!([{"subnet": pods}]));
    let anywhere = node.families.anywhere();
    let routes = anywhere.iter().map(|range| json!({"dst": range}));
    let mut plugins = Vec::new();
    if node.families == Families::Both {
        // Before the pod's link is made: it would take a second or two to ask whether somebody else has its address.
        // The first is there for its result alone, without which the other does nothing.
        plugins.push(json!({"type": "loopback"}));
        let settings = json!({"net.ipv6.conf.default.accept_dad": "0"});
        plugins.push(json!({"type": "tuning", "sysctl": settings}));
    }
    plugins.push(json!({
        "type": "ptp",
        "ipMasq": false,
        "ipam": {
            "type": "host-local",
            "dataDir": "/run/cni/addresses",
            "ranges": ranges.collect::<Vec<_>>(),
            "routes": routes.collect::<Vec<_>>(),
        },
    }));
    let port_mappings = json!({"portMappings": true});
    plugins.push(json!({"type": "portmap", "capabilities": port_mappings, "backend": "nftables"}));
    json!({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins})
}

fn write_kubeconfig(
    path: &Path,
    pki: &Pki,
    identity: &Identity,
    api_server: &str,
) -> anyhow::Result<()> {
    write_json(
        path,
        &json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": "stillwake-test",
                "cluster": {"server": api_server, "certificate-authority": pki.authority()},
            }],
            "users": [{
                "name": "user",
                "user": {"client-certificate": identity.certificate, "client-key": identity.key},
            }],
            "contexts": [{
                "name": "stillwake-test",
                "context": {"cluster": "stillwake-test", "user": "user"},
            }],
            "current-context": "stillwake-test",
        }),
    )
}

/// JSON is YAML too, and needs no other library.
fn write_json(path: &Path, value: &Value) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value).context("writing JSON")?;
    files::write(path, text)
}
