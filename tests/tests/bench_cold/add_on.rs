//! A Deployment under KEDA's HTTP Add-on, asked through the interceptor.

use std::net::SocketAddr;

use anyhow::ensure;
use http::{HeaderValue, Method, header};
use k8s_openapi::api::core::v1::Pod;
use stillwake_e2e::{
    benchmark::summary::Timed,
    client::{self, Answer, Connection},
    cluster::{Namespace, http_add_on, pods, scaling::Scaling, web::Web, zero},
    ledger::Ledger,
    load::Load,
};
use tokio::time::Instant;

use super::{COOLDOWN, PATH, check};

const NAME: &str = "http-add-on";

/// The interceptor tells by it where a request is to go.
const HOST: &str = "cold.example";

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
        Ok(Self {
            namespace: namespace.clone(),
            interceptor: http_add_on::interceptor(namespace).await?,
        })
    }

    /// Sends the first request and returns how long it takes until the answer is complete.
    pub(super) async fn wake(&self, round: usize) -> Timed {
        let begun = Instant::now();
        let answer = self.ask(round as u64).await;
        let took = begun.elapsed();
        Timed::of(took, || {
            let answer = answer?;
            check(&answer, round as u64)?;
            ensure!(has_waited(&answer), "it did not wait: {:?}", answer.headers);
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

    /// Returns a load that comes through the interceptor.
    pub(super) fn load(&self, ledger: &Ledger) -> Load {
        Load::new(self.interceptor, ledger.clone()).of_host(HOST)
    }

    /// Returns its pods: one, once that takes requests.
    pub(super) async fn pods(&self) -> anyhow::Result<Vec<Pod>> {
        pods::until_ready(&self.namespace, NAME, 1).await
    }
}

/// Whether an answer says that its request had to wait at the interceptor.
pub(super) fn has_waited(answer: &Answer) -> bool {
    answer.header(COLD_START) == Some("true")
}
