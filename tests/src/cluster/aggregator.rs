//! The suites' aggregator in a namespace: started, told, asked and ended.
//!
//! What it is inside is in [`crate::aggregator`].

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, ensure};
use http::{Method, StatusCode};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    api::{Patch, PatchParams},
    runtime::watcher,
};

use stillwake_proto::scaler::{
    GetMetricsRequest, ScaledObjectRef, external_scaler_client::ExternalScalerClient,
};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

use super::{Namespace, watching};
use crate::{
    aggregator::{ADMIN_PORT, Event, INGEST_PORT, MEMBERSHIP_PORT, SCALER_PORT},
    client::{self, Connection, request, whole},
    local::Metrics,
    wait,
};

/// Name of its Deployment and its Service.
const NAME: &str = "aggregator";

/// What the suites' triggers say as `window`: short, so that the HPA soon sees what is.
pub const WINDOW: &str = "1s";

/// An aggregator that takes reports.
#[derive(Clone, Debug)]
pub struct Aggregator {
    namespace: Namespace,
    pod: IpAddr,
    ingest: SocketAddr,
    scaler: SocketAddr,
}

/// How often KEDA has called and got an answer, and has been told to wake something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calls {
    /// Calls of `IsActive`: one in each poll of KEDA and one in each look of the HPA.
    pub is_active: u64,
    /// Streams opened to hear of wake-ups.
    pub streams: u64,
    /// Wake-ups sent on them.
    pub pushes: u64,
}

/// A connection to an aggregator's scaler.
#[derive(Debug)]
pub struct Asking {
    scaler: ExternalScalerClient<Channel>,
    namespace: String,
}

impl Asking {
    /// Returns what the HPA would be told of the concurrency under a `ScaledObject`, over [`WINDOW`].
    ///
    /// # Errors
    ///
    /// When it does not answer, or does not know.
    pub async fn concurrency(&mut self, scaled_object: &str) -> anyhow::Result<f64> {
        let object = ScaledObjectRef {
            name: scaled_object.to_owned(),
            namespace: self.namespace.clone(),
            scaler_metadata: [("window".to_owned(), WINDOW.to_owned())].into(),
        };
        let asked = self.scaler.get_metrics(GetMetricsRequest {
            scaled_object_ref: Some(object),
            metric_name: "concurrency".to_owned(),
        });
        let values = asked.await?.into_inner().metric_values;
        let value = values.first().context("it answers without a value")?;
        Ok(value.metric_value_float)
    }
}

impl Aggregator {
    /// Starts one that knows nothing.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub async fn start(namespace: &Namespace) -> anyhow::Result<Self> {
        let manifest = include_str!("manifests/aggregator.yaml");
        let ports = [ADMIN_PORT, INGEST_PORT, SCALER_PORT].map(|port| port.to_string());
        let [admin, ingest, scaler] = &ports;
        let values = [
            ("admin", admin.as_str()),
            ("ingest", ingest),
            ("scaler", scaler),
        ];
        namespace.apply(manifest, &values).await?;
        let pods = namespace.api::<Pod>();
        let selected = watcher::Config::default().labels("app=aggregator");
        let pod = watching::until_all(&pods, selected, "the aggregator's pod", |pods| {
            let pod = pods.values().find(|pod| watching::is_ready(pod));
            let address = pod.and_then(|pod| pod.status.as_ref()?.pod_ip.clone());
            address.ok_or_else(|| watching::phases(pods))
        });
        let pod = pod.await?.parse()?;
        let service = namespace.api::<Service>().get(NAME).await?;
        let address = service.spec.and_then(|spec| spec.cluster_ip);
        let address: IpAddr = address
            .context("the aggregator's Service has no address")?
            .parse()?;
        // KEDA before 2.20 asks for the metrics' names once, and an HPA of its own invention stays if nobody answers.
        let scaler = SocketAddr::new(address, SCALER_PORT);
        wait::until(
            "the aggregator's Service to lead to it",
            watching::PATIENCE,
            || TcpStream::connect(scaler),
        )
        .await?;
        Ok(Self {
            namespace: namespace.clone(),
            pod,
            ingest: SocketAddr::new(address, INGEST_PORT),
            scaler,
        })
    }

    /// Returns where reporters connect, through its Service.
    pub fn ingest(&self) -> SocketAddr {
        self.ingest
    }

    /// Returns what a trigger names as its `scalerAddress`.
    pub fn scaler_address(&self) -> String {
        format!("{NAME}.{}.svc:{SCALER_PORT}", self.namespace.name())
    }

    /// Tells it who exists.
    ///
    /// # Errors
    ///
    /// When it does not answer or refuses the events.
    pub async fn tell(&self, events: &[Event]) -> anyhow::Result<()> {
        let body = whole(serde_json::to_vec(events)?);
        let address = SocketAddr::new(self.pod, MEMBERSHIP_PORT);
        let mut connection = Connection::open(address).await?;
        let answer = connection
            .send(request(Method::POST, "/membership", 0, body))
            .await?;
        ensure!(
            answer.status == StatusCode::OK,
            "membership was refused: {}",
            answer.text()
        );
        Ok(())
    }

    /// Returns its `/debug/state`.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn state(&self) -> anyhow::Result<serde_json::Value> {
        Ok(serde_json::from_str(&self.page("/debug/state").await?)?)
    }

    /// Connects to its scaler, as KEDA does, which keeps the connection.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn asking(&self) -> anyhow::Result<Asking> {
        let channel = Endpoint::from_shared(format!("http://{}", self.scaler))?;
        Ok(Asking {
            scaler: ExternalScalerClient::new(channel.connect().await?),
            namespace: self.namespace.name().to_owned(),
        })
    }

    /// Returns what [`Asking::concurrency`] does, over a connection of its own.
    ///
    /// # Errors
    ///
    /// When it does not answer, or does not know.
    pub async fn concurrency(&self, scaled_object: &str) -> anyhow::Result<f64> {
        self.asking().await?.concurrency(scaled_object).await
    }

    /// Returns what KEDA has done so far.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn calls(&self) -> anyhow::Result<Calls> {
        let metrics = Metrics::new(self.page("/metrics").await?);
        // A method that was never called has no series.
        let calls = |method| {
            let labels = [("method", method), ("code", "Ok")];
            metrics
                .count("stillwake_aggregator_calls_total", &labels)
                .unwrap_or(0)
        };
        Ok(Calls {
            is_active: calls("IsActive"),
            streams: calls("StreamIsActive"),
            pushes: metrics.count("stillwake_aggregator_pushes_total", &[])?,
        })
    }

    /// Waits until KEDA has called as `is_enough` says; returns all calls then.
    ///
    /// # Errors
    ///
    /// After [`watching::PATIENCE`], with the calls so far.
    pub async fn calls_until(
        &self,
        what: &str,
        is_enough: impl Fn(Calls) -> bool,
    ) -> anyhow::Result<Calls> {
        let look = async || {
            let calls = self.calls().await.map_err(|error| format!("{error:#}"))?;
            if is_enough(calls) {
                Ok(calls)
            } else {
                Err(format!("{calls:?}"))
            }
        };
        wait::until(what, watching::PATIENCE, look).await
    }

    /// Ends it and keeps it away. Returns when its Service leads nowhere.
    ///
    /// # Errors
    ///
    /// When it does not end.
    pub async fn remove(&self) -> anyhow::Result<()> {
        let none = Patch::Merge(serde_json::json!({"spec": {"replicas": 0}}));
        let deployments = self.namespace.api::<Deployment>();
        deployments
            .patch(NAME, &PatchParams::default(), &none)
            .await?;
        let slices = self.namespace.api::<EndpointSlice>();
        let selected = watcher::Config::default().labels("kubernetes.io/service-name=aggregator");
        watching::until_all(
            &slices,
            selected,
            "no endpoint of the aggregator",
            |slices| {
                let left: usize = slices.values().map(|slice| slice.endpoints.len()).sum();
                if left == 0 {
                    Ok(())
                } else {
                    Err(format!("{left} endpoints"))
                }
            },
        )
        .await
    }

    async fn page(&self, path: &str) -> anyhow::Result<String> {
        let answer = client::get(SocketAddr::new(self.pod, ADMIN_PORT), path).await;
        let answer = answer.context("the aggregator does not answer")?;
        ensure!(
            answer.status == StatusCode::OK,
            "{path} is {}: {}",
            answer.status,
            answer.text()
        );
        Ok(answer.text())
    }
}
