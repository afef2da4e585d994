//! The installed product: the chart's release, and what its replicas say of themselves.
//!
//! Installs what `make cluster-images` built and the chart as it lies in the checkout; a release that is the same already
//! is left alone, so that suites share it. Who has it with other values, or breaks it, has it alone, or installs one more.

mod release;

use std::{
    collections::BTreeMap,
    fs::File,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context, ensure};
use http::StatusCode;
use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    apps::v1::{DaemonSet, Deployment},
    core::v1::{Pod, Secret},
};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::{Value, json};

use self::release::Use;
pub use self::release::helm;
use super::{
    Cluster, Namespace, creation,
    pods::{self, INJECT, SIDECAR},
    watching,
};
use crate::{client, local::Metrics, wait};

/// The namespace it is installed into.
pub const NAMESPACE: &str = "stillwake-system";

/// The name of the release, and what its objects' names begin with.
pub const RELEASE: &str = "stillwake";

/// The variable of sidecars that names the aggregators.
const AGGREGATORS: &str = "STILLWAKE_SIDECAR_AGGREGATORS";

/// The port of `/live`, `/ready`, `/metrics` and `/debug/state`.
const ADMIN_PORT: u16 = 9900;

/// What the chart installs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// Admits pods.
    Webhook,
    /// Collects what sidecars count, and answers KEDA.
    Aggregator,
    /// Holds requests of workloads at zero.
    Activator,
}

impl Component {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Webhook, Self::Aggregator, Self::Activator];

    /// Those that prove by a certificate who they are.
    pub const CERTIFIED: [Self; 2] = [Self::Webhook, Self::Aggregator];

    fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Aggregator => "aggregator",
            Self::Activator => "activator",
        }
    }
}

/// Which release it is.
#[derive(Clone, Debug)]
struct Place {
    release: String,
    namespace: String,
}

impl Place {
    /// Returns the one that suites share.
    fn shared() -> Self {
        Self {
            release: RELEASE.to_owned(),
            namespace: NAMESPACE.to_owned(),
        }
    }

    /// Returns the name of a component's Deployment.
    fn deployment(&self, component: Component) -> String {
        format!("{}-{}", self.release, component.name())
    }

    fn selector(&self, component: Component) -> String {
        format!(
            "app.kubernetes.io/instance={},app.kubernetes.io/component={}",
            self.release,
            component.name()
        )
    }
}

/// A release that works.
#[derive(Clone, Debug)]
pub struct Stillwake {
    cluster: Cluster,
    place: Place,
    /// Ends with the last clone; none of a release that nobody else knows of.
    _used: Option<Arc<File>>,
}

impl Stillwake {
    /// Installs the chart with default values, for whoever takes it as it is. As [`Self::install`].
    ///
    /// # Errors
    ///
    /// As [`Self::install`].
    pub async fn with_defaults(namespace: &Namespace) -> anyhow::Result<Self> {
        Self::used(namespace, &json!({}), Use::Shared).await
    }

    /// Installs the chart with values once nobody else uses it, and keeps others waiting. As [`Self::install`].
    ///
    /// # Errors
    ///
    /// As [`Self::install`].
    pub async fn with_values(namespace: &Namespace, values: &Value) -> anyhow::Result<Self> {
        Self::used(namespace, values, Use::Alone).await
    }

    async fn used(namespace: &Namespace, values: &Value, how: Use) -> anyhow::Result<Self> {
        let installed = Self {
            cluster: namespace.cluster().clone(),
            place: Place::shared(),
            _used: Some(Arc::new(release::take(how).await?)),
        };
        installed.install(namespace, values).await?;
        Ok(installed)
    }

    /// Installs the chart once more, with values, into the namespace `home` and for `namespace` alone. Whoever does has to
    /// uninstall it: not all of it belongs to a namespace.
    ///
    /// Its webhook is asked before that of the release that suites share, which then finds the sidecar there.
    ///
    /// # Errors
    ///
    /// As [`Self::install`].
    pub async fn apart(
        home: &Namespace,
        namespace: &Namespace,
        values: &Value,
    ) -> anyhow::Result<Self> {
        let installed = Self {
            cluster: namespace.cluster().clone(),
            place: Place {
                // With the chart's name in it, it is what objects' names begin with; API servers ask in order of names.
                release: format!("apart-{RELEASE}-{:08x}", rand::random::<u32>()),
                namespace: home.name().to_owned(),
            },
            _used: None,
        };
        let mut values = values.clone();
        values["watchNamespaces"] = json!([namespace.name()]);
        installed.install(namespace, &values).await?;
        Ok(installed)
    }

    /// Sees to it that the chart is installed with these values and no others, from the images that were built last, and
    /// returns when all replicas are ready and pods of `namespace` that ask for the sidecar get it.
    ///
    /// # Errors
    ///
    /// When helm fails, or it does not come up.
    pub async fn install(&self, namespace: &Namespace, values: &Value) -> anyhow::Result<()> {
        release::ensure(&self.cluster, &self.place, values).await?;
        for component in Component::ALL {
            self.rolled_out(component).await?;
        }
        self.authorities_published().await?;
        let asking = json!({
            "metadata": {"name": "asking", "labels": {INJECT: "enabled"}},
            "spec": {"containers": [{
                "name": "app",
                "image": super::IMAGE,
                "ports": [{"name": "http", "containerPort": 8080}],
            }]},
        });
        // The API server takes a moment to know the certificate and the address; so does the webhook to know a namespace.
        wait::until("a sidecar in a pod", watching::PATIENCE, async || {
            let created = creation::try_out(namespace, &asking).await;
            let created = created.map_err(|error| format!("{error:#}"))?;
            let pod: Pod =
                serde_json::from_value(created.object).map_err(|error| error.to_string())?;
            if self.has_injected(&pod) {
                Ok(())
            } else {
                Err(format!("no {SIDECAR} of ours, {:?}", created.warnings))
            }
        })
        .await
    }

    /// Returns whether a pod has a sidecar that reports to this release.
    pub fn has_injected(&self, pod: &Pod) -> bool {
        let environment = pods::sidecar(pod).and_then(|sidecar| sidecar.env.as_ref());
        let mut values = environment.into_iter().flatten();
        let host = self.reports_host();
        values.any(|variable| {
            variable.name == AGGREGATORS
                && variable
                    .value
                    .as_ref()
                    .is_some_and(|value| value.contains(&host))
        })
    }

    /// Uninstalls it. It has to be had alone.
    ///
    /// # Errors
    ///
    /// When helm fails.
    pub async fn uninstall(&self) -> anyhow::Result<()> {
        release::uninstall(&self.cluster, &self.place).await
    }

    /// Returns what a trigger names as its `scalerAddress`.
    pub fn scaler_address(&self) -> String {
        let Place { release, namespace } = &self.place;
        format!("{release}-aggregator.{namespace}:9090")
    }

    /// Returns what sidecars know the aggregators as: whoever answers has to prove that it is this.
    pub fn reports_host(&self) -> String {
        let Place { release, namespace } = &self.place;
        format!("{release}-reports.{namespace}.svc.cluster.local")
    }

    /// Returns the namespace that it is in.
    pub fn namespace(&self) -> &str {
        &self.place.namespace
    }

    /// Returns the name of the Secret with its authorities.
    pub fn authorities_secret(&self) -> String {
        format!("{}-authorities", self.place.release)
    }

    /// Returns the name that its objects' names begin with, which is that of its webhook configuration.
    pub fn name(&self) -> &str {
        &self.place.release
    }

    /// Returns the name of a component's Deployment.
    pub fn deployment(&self, component: Component) -> String {
        self.place.deployment(component)
    }

    /// Returns what selects a component's pods.
    pub fn selector(&self, component: Component) -> String {
        self.place.selector(component)
    }

    /// Waits until every replica of a component is of the newest kind and ready, and no other is left.
    ///
    /// # Errors
    ///
    /// When that does not come about.
    pub async fn rolled_out(&self, component: Component) -> anyhow::Result<()> {
        let daemon_sets = Api::<DaemonSet>::namespaced(self.cluster.client(), self.namespace());
        let name = self.place.deployment(component);
        if daemon_sets.get_opt(&name).await?.is_some() {
            return on_every_node(&daemon_sets, &name).await;
        }
        let deployments = Api::<Deployment>::namespaced(self.cluster.client(), self.namespace());
        watching::until(&deployments, &name, "all replicas", |deployment| {
            let deployment = deployment.ok_or("there is none")?;
            let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
            let status = deployment.status.clone().unwrap_or_default();
            let is_seen = status.observed_generation == deployment.metadata.generation;
            let counts = [
                status.updated_replicas,
                status.ready_replicas,
                status.replicas,
            ];
            if is_seen && counts.iter().all(|count| *count == wanted) {
                Ok(())
            } else {
                Err("some are missing, unready or old")
            }
        })
        .await
    }

    async fn authorities_published(&self) -> anyhow::Result<()> {
        let all = Api::<MutatingWebhookConfiguration>::all(self.cluster.client());
        watching::until(&all, self.name(), "the authorities", |configuration| {
            let webhooks = configuration.and_then(|found| found.webhooks.as_ref());
            let webhooks = webhooks.ok_or("there is none")?;
            let is_published = webhooks.iter().all(|webhook| {
                let bundle = webhook.client_config.ca_bundle.as_ref();
                bundle.is_some_and(|bundle| !bundle.0.is_empty())
            });
            is_published.then_some(()).ok_or("caBundle is empty")
        })
        .await
    }

    /// Returns the certificates that its own are to be verified with, as PEM.
    ///
    /// # Errors
    ///
    /// When they are not where the webhook keeps them.
    pub async fn authorities(&self) -> anyhow::Result<String> {
        let secrets = Api::<Secret>::namespaced(self.cluster.client(), self.namespace());
        let secret = secrets.get(&self.authorities_secret()).await?;
        let bundle = secret.data.and_then(|mut data| data.remove("ca.crt"));
        let bundle = bundle.context("the Secret of the authorities has no ca.crt")?;
        Ok(String::from_utf8(bundle.0)?)
    }

    /// Returns the pods of a component's ready replicas.
    ///
    /// # Errors
    ///
    /// When the API server does not answer.
    pub async fn replicas(&self, component: Component) -> anyhow::Result<Vec<Pod>> {
        let all = Api::<Pod>::namespaced(self.cluster.client(), self.namespace());
        let selected = ListParams::default().labels(&self.place.selector(component));
        let list = all.list(&selected).await?;
        Ok(list.into_iter().filter(watching::is_ready).collect())
    }

    /// Returns `/debug/state` of every ready replica, by the pod's name.
    ///
    /// # Errors
    ///
    /// When one of them does not answer.
    pub async fn states(&self, component: Component) -> anyhow::Result<BTreeMap<String, Value>> {
        let pages = self.pages(component, "/debug/state").await?.into_iter();
        pages
            .map(|(pod, page)| Ok((pod, serde_json::from_str(&page)?)))
            .collect()
    }

    /// Returns `/metrics` of every ready replica, by the pod's name.
    ///
    /// # Errors
    ///
    /// When one of them does not answer.
    pub async fn metrics(&self, component: Component) -> anyhow::Result<BTreeMap<String, Metrics>> {
        let pages = self.pages(component, "/metrics").await?.into_iter();
        Ok(pages.map(|(pod, page)| (pod, Metrics::new(page))).collect())
    }

    async fn pages(
        &self,
        component: Component,
        path: &str,
    ) -> anyhow::Result<BTreeMap<String, String>> {
        let mut pages = BTreeMap::new();
        for pod in self.replicas(component).await? {
            let name = pod.name_any();
            let address = pods::address(&pod).with_context(|| format!("{name} has no address"))?;
            let page = page(address, path).await;
            pages.insert(
                name.clone(),
                page.with_context(|| format!("asking {name}"))?,
            );
        }
        ensure!(
            !pages.is_empty(),
            "no replica of the {} is ready",
            component.name()
        );
        Ok(pages)
    }
}

/// Waits until a replica of the newest kind is ready on each node.
async fn on_every_node(daemon_sets: &Api<DaemonSet>, name: &str) -> anyhow::Result<()> {
    watching::until(daemon_sets, name, "a replica on each node", |daemon_set| {
        let daemon_set = daemon_set.ok_or("there is none")?;
        let status = daemon_set.status.clone().unwrap_or_default();
        let wanted = status.desired_number_scheduled;
        let is_seen = status.observed_generation == daemon_set.metadata.generation;
        let is_new = status.updated_number_scheduled == Some(wanted);
        if is_seen && is_new && wanted > 0 && status.number_ready == wanted {
            Ok(())
        } else {
            Err("some are missing, unready or old")
        }
    })
    .await
}

/// Returns an admin page of a replica.
pub(super) async fn page(address: IpAddr, path: &str) -> anyhow::Result<String> {
    let answer = client::get(SocketAddr::new(address, ADMIN_PORT), path).await?;
    ensure!(
        answer.status == StatusCode::OK,
        "{path} is {}: {}",
        answer.status,
        answer.text()
    );
    Ok(answer.text())
}
