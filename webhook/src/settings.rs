//! What whoever installs Stillwake decides for all pods; what one pod decides for itself is in `annotations`.

use std::{net::SocketAddr, time::Duration};

use crate::surroundings::PodSecurity;

/// How pods are injected.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Image of the sidecar.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`; `None` leaves it to Kubernetes.
    pub image_pull_policy: Option<String>,
    /// `host:port` of the aggregators. The name has to be one that the sidecar can resolve in any namespace.
    pub aggregators: Vec<String>,
    /// Whether sidecars report over TLS and are told which authorities vouch for the aggregators. False is for set-ups
    /// whose aggregators take reports in plain text; then nobody is told.
    pub aggregator_tls: bool,
    /// Audience of the token that proves to the aggregators which pod reports.
    pub token_audience: String,
    /// How long such a token is good for; the kubelet renews it in time. Kubernetes takes 10 minutes or more.
    pub token_lifetime: Duration,
    /// `host:port` of the activator's relay port, to which sidecars that go away hand over what still comes; `None` is
    /// nobody. The name has to be one that the sidecar can resolve in any namespace.
    pub activator: Option<String>,
    /// How long a sidecar that goes away goes on to accept connections, with an activator.
    pub linger: Duration,
    /// How long an app goes on before it is told to stop, while the sidecar sends its clients elsewhere; whole seconds,
    /// zero is not at all. See [`crate::surroundings::Surroundings::sleeps`].
    pub stop_delay: Duration,
    /// Where the sidecar serves its admin pages; `None` is nowhere.
    pub admin: Option<SocketAddr>,
    /// User and group the sidecar runs as; `None` leaves the choice to the platform, as `OpenShift` wants it.
    pub user: Option<i64>,
    /// What the sidecar may take, as Kubernetes writes quantities.
    pub resources: Resources,
    /// Whether ports may be redirected where nothing more harmless does; see [`crate::sidecar::redirect`].
    pub redirect: bool,
    /// The level that the API server enforces in namespaces that say none.
    pub default_pod_security: PodSecurity,
}

/// Requests and limits of the sidecar, as Kubernetes writes quantities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    /// CPU that is set aside.
    pub cpu_request: String,
    /// Memory that is set aside.
    pub memory_request: String,
    /// The most CPU; `None` is no limit, because a throttled sidecar slows down all requests of its app.
    pub cpu_limit: Option<String>,
    /// The most memory; `None` is no limit.
    pub memory_limit: Option<String>,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            cpu_request: "5m".to_owned(),
            memory_request: "8Mi".to_owned(),
            cpu_limit: None,
            memory_limit: None,
        }
    }
}

impl Settings {
    /// Returns settings with the defaults for all but the image of the sidecar and where it reports to.
    pub fn new(image: impl Into<String>, aggregators: Vec<String>) -> Self {
        Self {
            image: image.into(),
            image_pull_policy: None,
            aggregators,
            aggregator_tls: true,
            token_audience: "stillwake-aggregator".to_owned(),
            token_lifetime: Duration::from_hours(1),
            activator: None,
            linger: Duration::from_secs(5),
            stop_delay: Duration::from_secs(2),
            admin: None,
            // The image's own; written out because a pod may set root for all its containers.
            user: Some(65532),
            resources: Resources::default(),
            redirect: true,
            default_pod_security: PodSecurity::Privileged,
        }
    }
}
