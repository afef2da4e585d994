//! What runs on a node, in which order, with which flags.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{arguments::Shape, configuration::Files, network::NodeNetwork, parts::Built, pki::Pki};

/// containerd's socket, in the node's own /run.
pub(crate) const CONTAINERD: &str = "/run/containerd/containerd.sock";

const ETCD: &str = "http://127.0.0.1:2379";

/// A long-running process of a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Component {
    /// Also the name of its log.
    pub(crate) name: String,
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// A command that succeeds once the component serves. What follows is started then: most of it gives up when it
    /// finds nobody.
    pub(crate) serves: Option<Vec<String>>,
}

/// All of a node, for its first process to read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodePlan {
    pub(crate) name: String,
    pub(crate) logs: PathBuf,
    /// Folders in front of PATH.
    pub(crate) programs: Vec<PathBuf>,
    pub(crate) components: Vec<Component>,
}

/// What runs on every node: containerd, kubelet, kube-proxy.
pub(crate) fn worker(built: &Built, files: &Files, node: &NodeNetwork) -> Vec<Component> {
    let kube = text(&built.kubernetes.program("kube"));
    let ctr = text(&built.containerd.program("ctr"));
    let folder = files.node();
    let addresses = node.addresses.iter().map(ToString::to_string);
    let addresses = addresses.collect::<Vec<_>>().join(",");
    vec![
        Component {
            name: "containerd".to_owned(),
            command: vec![
                text(&built.containerd.program("containerd")),
                "--config".to_owned(),
                text(&files.containerd()),
            ],
            serves: Some(vec![
                ctr,
                "--address".to_owned(),
                CONTAINERD.to_owned(),
                "version".to_owned(),
            ]),
        },
        component(
            "kubelet",
            vec![
                kube.clone(),
                "kubelet".to_owned(),
                option("config", files.kubelet()),
                option("kubeconfig", files.kubeconfig("kubelet")),
                format!("--hostname-override={}", node.name),
                format!("--node-ip={addresses}"),
                option("root-dir", folder.join("kubelet")),
            ],
        ),
        component(
            "kube-proxy",
            vec![
                kube,
                "kube-proxy".to_owned(),
                option("config", files.proxy()),
            ],
        ),
    ]
}

/// What the first node runs before that: etcd, API server, controller manager, scheduler.
pub(crate) fn control_plane(
    built: &Built,
    pki: &Pki,
    files: &Files,
    node: &NodeNetwork,
    shape: &Shape,
) -> Vec<Component> {
    let kube = text(&built.kubernetes.program("kube"));
    let mut scheduler = vec![kube.clone(), "kube-scheduler".to_owned()];
    scheduler.extend(own_kubeconfig(&files.kubeconfig("scheduler")));
    let mut controller_manager = vec![
        kube.clone(),
        "kube-controller-manager".to_owned(),
        option(
            "service-account-private-key-file",
            pki.service_account_key(),
        ),
        option("root-ca-file", pki.authority()),
        "--use-service-account-credentials".to_owned(),
        format!("--cluster-cidr={}", node.families.pods()),
    ];
    controller_manager.extend(own_kubeconfig(&files.kubeconfig("controller-manager")));
    if let Some(requests) = shape.controller_requests {
        let at_once = u32::from(requests) * 2;
        controller_manager.push(format!("--kube-api-qps={requests}"));
        controller_manager.push(format!("--kube-api-burst={at_once}"));
    }
    let mut api_server = api_server(&kube, pki, node);
    if let Some(gates) = &shape.feature_gates {
        let option = format!("--feature-gates={gates}");
        controller_manager.push(option.clone());
        api_server.push(option);
    }
    vec![
        component(
            "etcd",
            vec![
                text(&built.etcd.program("etcd")),
                option("data-dir", files.node().join("etcd")),
                format!("--listen-client-urls={ETCD}"),
                format!("--advertise-client-urls={ETCD}"),
                "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
                // The data ends with the cluster.
                "--unsafe-no-fsync".to_owned(),
            ],
        ),
        Component {
            name: "kube-apiserver".to_owned(),
            command: api_server,
            serves: Some(vec![
                text(&built.kubernetes.program("kubectl")),
                option("kubeconfig", files.administrator()),
                "get".to_owned(),
                "--raw=/readyz".to_owned(),
            ]),
        },
        component("kube-controller-manager", controller_manager),
        component("kube-scheduler", scheduler),
    ]
}

fn api_server(kube: &str, pki: &Pki, node: &NodeNetwork) -> Vec<String> {
    let serving = pki.identity("api-server");
    let front_proxy = pki.identity("front-proxy");
    let administrator = pki.identity("administrator");
    let key = pki.service_account_key();
    vec![
        kube.to_owned(),
        "kube-apiserver".to_owned(),
        format!("--etcd-servers={ETCD}"),
        "--secure-port=6443".to_owned(),
        format!("--advertise-address={}", node.address()),
        format!("--service-cluster-ip-range={}", node.families.services()),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged".to_owned(),
        option("client-ca-file", pki.authority()),
        option("tls-cert-file", serving.certificate),
        option("tls-private-key-file", serving.key),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        option("service-account-key-file", &key),
        option("service-account-signing-key-file", &key),
        // Aggregated API servers, KEDA's among them, are called through the front proxy's identity.
        option("requestheader-client-ca-file", pki.front_proxy_authority()),
        "--requestheader-allowed-names=front-proxy-client".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        option("proxy-client-cert-file", front_proxy.certificate),
        option("proxy-client-key-file", front_proxy.key),
        option("kubelet-client-certificate", administrator.certificate),
        option("kubelet-client-key", administrator.key),
        option("kubelet-certificate-authority", pki.authority()),
        // Nobody resolves the nodes' names.
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
    ]
}

/// How a component without rivals uses its kubeconfig, also to ask who calls it.
fn own_kubeconfig(path: &Path) -> [String; 4] {
    [
        option("kubeconfig", path),
        option("authentication-kubeconfig", path),
        option("authorization-kubeconfig", path),
        "--leader-elect=false".to_owned(),
    ]
}

fn component(name: &str, command: Vec<String>) -> Component {
    Component {
        name: name.to_owned(),
        command,
        serves: None,
    }
}

fn option(name: &str, path: impl AsRef<Path>) -> String {
    format!("--{name}={}", path.as_ref().display())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
