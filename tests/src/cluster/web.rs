//! The suites' app as users deploy theirs: a Deployment with a Service in front.
//!
//! Knows no sidecar; what asks for one is a label like any other.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::Context;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Service},
};
use serde_json::{Value, json};

use super::{
    Namespace,
    creation::{self, Created},
    pods, watching,
};
use crate::{client, wait};

/// The port that the app listens on.
pub const PORT: u16 = 8080;

/// How a Service, or a probe, says which port is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// By the name that the container gives it.
    Name,
    /// By its number.
    Number,
}

impl By {
    /// Returns it as `targetPort`, or as a probe's `port`.
    pub fn port(self) -> Value {
        match self {
            Self::Name => json!("http"),
            Self::Number => json!(PORT),
        }
    }
}

/// A Deployment with the label `app` and a Service, both called the same.
#[derive(Clone, Debug)]
pub struct Web {
    /// What they are called.
    pub name: String,
    /// How many there are.
    pub replicas: usize,
    /// Labels of the pods, besides `app`.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pods.
    pub annotations: BTreeMap<String, String>,
    /// Where the app listens.
    pub address: IpAddr,
    /// How the Service means the app's port.
    pub target: By,
    /// The container's probes; `null` is none.
    pub startup: Value,
    /// As [`Self::startup`].
    pub readiness: Value,
    /// As [`Self::startup`].
    pub liveness: Value,
    /// How long the app goes on after SIGTERM as if nothing had happened.
    pub linger: Duration,
}

impl Web {
    /// Returns one replica with a readiness probe, whose Service goes by the port's name.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            replicas: 1,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            address: Ipv4Addr::UNSPECIFIED.into(),
            target: By::Name,
            startup: Value::Null,
            readiness: http_probe(By::Number),
            liveness: Value::Null,
            linger: Duration::ZERO,
        }
    }

    /// Labels the pods.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Applies both.
    ///
    /// # Errors
    ///
    /// When they are refused.
    pub async fn apply(&self, namespace: &Namespace) -> anyhow::Result<()> {
        let mut labels = self.labels.clone();
        labels.insert("app".to_owned(), self.name.clone());
        let values = [
            ("name", self.name.clone()),
            ("replicas", self.replicas.to_string()),
            ("labels", json!(labels).to_string()),
            ("annotations", json!(self.annotations).to_string()),
            ("address", self.address.to_string()),
            ("linger", format!("{}s", self.linger.as_secs())),
            (
                "port",
                json!({"name": "http", "containerPort": PORT}).to_string(),
            ),
            ("startup", self.startup.to_string()),
            ("readiness", self.readiness.to_string()),
            ("liveness", self.liveness.to_string()),
            ("target", self.target.port().to_string()),
        ];
        let values = values
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        namespace
            .apply(include_str!("manifests/web.yaml"), &values)
            .await
    }

    /// Applies both without a replica, and has the pod of the Deployment tried out until `look` is content with what
    /// becomes of it. What does depends on Services and policies, which the webhook gets to know a moment later.
    ///
    /// # Errors
    ///
    /// When they are refused, or `look` never is, with what it said last.
    pub async fn foresee(
        &self,
        namespace: &Namespace,
        look: impl Fn(&Pod, &Created) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let none = Self {
            replicas: 0,
            ..self.clone()
        };
        none.apply(namespace).await?;
        let deployment = namespace.api::<Deployment>().get(&self.name).await?;
        let mut pod = json!(deployment.spec.map(|spec| spec.template));
        pod["metadata"]["generateName"] = json!(format!("{}-", self.name));
        let what = format!("the pod that {} is to have", self.name);
        let tried = async || {
            let created = creation::try_out(namespace, &pod).await?;
            look(&serde_json::from_value(created.object.clone())?, &created)
        };
        wait::until(&what, watching::PATIENCE, tried).await
    }

    /// Waits until all replicas take traffic, and returns their pods.
    ///
    /// # Errors
    ///
    /// As [`pods::until_ready`].
    pub async fn until_ready(&self, namespace: &Namespace) -> anyhow::Result<Vec<Pod>> {
        pods::until_ready(namespace, &self.name, self.replicas).await
    }

    /// Does both, and returns the pods and where the Service answers.
    ///
    /// # Errors
    ///
    /// As [`Self::apply`], [`Self::until_ready`] and [`address`].
    pub async fn start(&self, namespace: &Namespace) -> anyhow::Result<(Vec<Pod>, SocketAddr)> {
        self.apply(namespace).await?;
        let pods = self.until_ready(namespace).await?;
        Ok((pods, address(namespace, &self.name).await?))
    }
}

/// Returns a probe of the app over HTTP, each second.
pub fn http_probe(by: By) -> Value {
    json!({"httpGet": {"path": "/", "port": by.port()}, "periodSeconds": 1})
}

/// Returns a probe that only connects, each second.
pub fn tcp_probe(by: By) -> Value {
    json!({"tcpSocket": {"port": by.port()}, "periodSeconds": 1})
}

/// Returns a probe that calls gRPC's health check, each second. It goes by the number; there is no other way.
pub fn grpc_probe() -> Value {
    json!({"grpc": {"port": PORT}, "periodSeconds": 1})
}

/// Returns a probe that runs the app's program, each second.
pub fn exec_probe() -> Value {
    json!({"exec": {"command": ["/stillwake-e2e-app", "--help"]}, "periodSeconds": 1})
}

/// Returns the address of a Service's first port, whether anybody answers there or not.
///
/// # Errors
///
/// When it has none.
pub async fn cluster_address(namespace: &Namespace, service: &str) -> anyhow::Result<SocketAddr> {
    let addresses = cluster_addresses(namespace, service).await?;
    addresses
        .into_iter()
        .next()
        .context("the Service has no address")
}

/// Returns all addresses of a Service's first port, one of each of its families, whether anybody answers there or not.
///
/// # Errors
///
/// When it has no port.
pub async fn cluster_addresses(
    namespace: &Namespace,
    service: &str,
) -> anyhow::Result<Vec<SocketAddr>> {
    let found = namespace.api::<Service>().get(service).await?;
    let spec = found.spec.unwrap_or_default();
    let ports = spec.ports.unwrap_or_default();
    let port = ports.first().context("the Service has no port")?.port;
    let port = u16::try_from(port)?;
    let addresses = spec.cluster_ips.unwrap_or_default();
    let addresses = addresses.iter();
    addresses
        .map(|address| Ok(SocketAddr::new(address.parse()?, port)))
        .collect()
}

/// Returns where a Service answers, once it does.
///
/// # Errors
///
/// When it has no address or does not answer.
pub async fn address(namespace: &Namespace, service: &str) -> anyhow::Result<SocketAddr> {
    let address = cluster_address(namespace, service).await?;
    // kube-proxy takes its time.
    let what = format!("an answer of the Service {service}");
    wait::until(&what, watching::PATIENCE, || client::get(address, "/")).await?;
    Ok(address)
}
