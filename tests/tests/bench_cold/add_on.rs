//! A Deployment under KEDA's HTTP Add-on, asked through the interceptor.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use http::{HeaderValue, Method, header};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use stillwake_e2e::{
    client::{self, Answer, Connection},
    cluster::{Namespace, keda, scaling::Scaling, web, web::Web, zero},
};
use tokio::time::Instant;

use super::{COOLDOWN, PATH, check, summary::Wake};

const NAME: &str = "http-add-on";

/// The interceptor tells by it where a request is to go.
const HOST: &str = "cold.example";

/// Where requests are to be sent to.
const INTERCEPTOR: &str = "keda-add-ons-http-interceptor-proxy";

/// What says `true` of a request that waited.
const COLD_START: &str = "x-keda-http-cold-start";

const MANIFEST: &str = "
apiVersion: http.keda.sh/v1alpha1
kind: HTTPScaledObject
metadata: {name: ${name}}
spec:
  hosts: [${host}]
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: ${name}, service: ${name}, port: 80}
  replicas: {min: 0, max: 10}
  scaledownPeriod: ${cooldown}
  scalingMetric:
    concurrency: {targetValue: 100}
";

/// It, at zero between two requests.
pub(super) struct AddOn {
    namespace: Namespace,
    interceptor: SocketAddr,
}

impl AddOn {
    pub(super) async fn start(namespace: &Namespace) -> anyhow::Result<Self> {
        Web::new(NAME).start(namespace).await?;
        let values = [
            ("name", NAME),
            ("host", HOST),
            ("cooldown", &COOLDOWN.as_secs().to_string()),
        ];
        namespace.apply(MANIFEST, &values).await?;
        // The Add-on makes a ScaledObject of the same name.
        Scaling::new(NAME, &[]).metrics(namespace).await?;
        zero::until_empty(namespace, NAME).await?;
        let keda = namespace.elsewhere(keda::NAMESPACE);
        Ok(Self {
            namespace: namespace.clone(),
            interceptor: web::cluster_address(&keda, INTERCEPTOR).await?,
        })
    }

    /// Sends the first request and returns how long it takes until the answer is complete.
    pub(super) async fn wake(&self, round: usize) -> Wake {
        let begun = Instant::now();
        let answer = self.ask(round as u64).await;
        let took = begun.elapsed();
        Wake::of(took, || {
            let answer = answer?;
            check(&answer, round as u64)?;
            ensure!(
                answer.header(COLD_START) == Some("true"),
                "it did not wait: {:?}",
                answer.headers
            );
            Ok(())
        })
    }

    async fn ask(&self, id: u64) -> anyhow::Result<Answer> {
        let body = client::whole(Vec::new());
        let mut request = client::request(Method::GET, PATH, id, body);
        let host = HeaderValue::from_static(HOST);
        request.headers_mut().insert(header::HOST, host);
        let mut connection = Connection::open(self.interceptor).await?;
        connection.send(request).await
    }

    pub(super) async fn until_asleep(&self) -> anyhow::Result<()> {
        zero::until_empty(&self.namespace, NAME).await
    }
}

/// Returns the version of the Add-on that is installed.
pub(super) async fn version(namespace: &Namespace) -> anyhow::Result<String> {
    let client = namespace.cluster().client();
    let deployments = Api::<Deployment>::namespaced(client, keda::NAMESPACE);
    let found = deployments.get_opt("keda-add-ons-http-interceptor").await?;
    let found = found.context(
        "the HTTP Add-on is not installed; `make bench-cold` does that, and runs this then",
    )?;
    let mut labels = found.metadata.labels.unwrap_or_default();
    let version = labels.remove("app.kubernetes.io/version");
    version.context("the interceptor has no label that says its version")
}
