//! A Deployment that is scaled by one of those compared, and its steps.

use std::{net::SocketAddr, time::Duration};

use anyhow::ensure;
use serde::Serialize;
use stillwake_e2e::{
    benchmark::summary::Timed,
    cluster::{
        Namespace,
        history::History,
        http_add_on, pods,
        scaling::Scaling,
        scene::{Scene, WEB},
        stillwake::Stillwake,
        web::Web,
    },
    ledger::Ledger,
    load::Load,
};
use tokio::time::{Instant, timeout};

use super::{BEFORE, IN_IT, TARGET, TIME, WANTED, WINDOW};

/// How long the pods of a step get to take requests before the next one of another begins.
const SETTLE: Duration = Duration::from_secs(20);

/// The interceptor tells by it where a request is to go.
const HOST: &str = "burst.example";

/// Without a `ScaledObject` of the Add-on's own, which would let nobody say how the HPA is to behave.
const ROUTE: &str = r#"
apiVersion: http.keda.sh/v1alpha1
kind: HTTPScaledObject
metadata:
  name: ${name}
  annotations: {httpscaledobject.keda.sh/skip-scaledobject-creation: "true"}
spec:
  hosts: [${host}]
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: ${name}, service: ${name}, port: 80}
  replicas: {min: 1, max: 10}
  scalingMetric:
    concurrency: {targetValue: ${target}}
"#;

/// It, with [`BEFORE`] requests in flight all the time, and what came of its steps so far.
pub(super) struct Subject {
    name: &'static str,
    namespace: Namespace,
    target: SocketAddr,
    host: Option<&'static str>,
    ledger: Ledger,
    before: Load,
    stepped: Option<Stepped>,
    times: Vec<Timed>,
    most: Vec<i32>,
}

/// A step whose load goes on, and how many replicas were asked for since it began.
struct Stepped {
    burst: Load,
    replicas: History<i32>,
}

/// What came of its steps.
#[derive(Debug, Serialize)]
pub(super) struct Steps {
    /// From the first request of a step to the replicas asked for.
    pub(super) times: Vec<Timed>,
    /// The most that were asked for in each step.
    pub(super) most: Vec<i32>,
    /// Requests sent, and those that were not answered.
    pub(super) sent: u64,
    pub(super) lost: u64,
}

impl Subject {
    pub(super) async fn of_stillwake(
        name: &'static str,
        namespace: &Namespace,
        stillwake: &Stillwake,
    ) -> anyhow::Result<Self> {
        let web = Web {
            name: name.to_owned(),
            ..Scene::web()
        };
        let (_, service) = web.start(namespace).await?;
        let target = TARGET.to_string();
        let window = format!("{}s", WINDOW.as_secs());
        scaling(name, &[("targetConcurrency", &target), ("window", &window)])
            .start(namespace, stillwake)
            .await?;
        Ok(Self::begin(name, namespace, service, None))
    }

    /// The trigger is of the Add-on's scaler, and so nothing to the release.
    pub(super) async fn of_add_on(
        namespace: &Namespace,
        stillwake: &Stillwake,
    ) -> anyhow::Result<Self> {
        let name = "http-add-on";
        Web {
            name: name.to_owned(),
            labels: Web::new(WEB).labels,
            ..Scene::web()
        }
        .start(namespace)
        .await?;
        let target = TARGET.to_string();
        let values = [("name", name), ("host", HOST), ("target", &target)];
        namespace.apply(ROUTE, &values).await?;
        let metadata = [
            ("scalerAddress", http_add_on::SCALER),
            ("httpScaledObject", name),
        ];
        scaling(name, &metadata).start(namespace, stillwake).await?;
        let interceptor = http_add_on::interceptor(namespace).await?;
        Ok(Self::begin(name, namespace, interceptor, Some(HOST)))
    }

    fn begin(
        name: &'static str,
        namespace: &Namespace,
        target: SocketAddr,
        host: Option<&'static str>,
    ) -> Self {
        let ledger = Ledger::default();
        let before = load(target, host, &ledger);
        before.steady(BEFORE, TIME);
        Self {
            name,
            namespace: namespace.clone(),
            target,
            host,
            ledger,
            before,
            stepped: None,
            times: Vec::new(),
            most: Vec::new(),
        }
    }

    /// Ends the last step, and returns when there is one replica again and the pods of the others are gone.
    pub(super) async fn calm(&mut self) -> anyhow::Result<()> {
        if let Some(Stepped { burst, replicas }) = self.stepped.take() {
            burst.finish().await;
            replicas.until(&1).await?;
            self.most.extend(replicas.values().into_iter().max());
        }
        pods::until_ready(&self.namespace, self.name, 1).await?;
        Ok(())
    }

    /// Steps up, tells how long it took until all replicas were asked for, and returns when their pods take requests. The
    /// step's load goes on: nobody scales down while others are measured.
    pub(super) async fn step(&mut self) -> anyhow::Result<()> {
        let replicas = History::of_replicas(&self.namespace, self.name).await?;
        let burst = load(self.target, self.host, &self.ledger);
        let begun = Instant::now();
        burst.steady(IN_IT - BEFORE, TIME);
        let grown = replicas
            .until_that("enough", |count| *count >= WANTED)
            .await;
        let at = grown
            .as_ref()
            .map_or_else(|_| Instant::now(), |grown| grown.at);
        let timed = Timed::of(at.saturating_duration_since(begun), || grown.map(drop));
        eprintln!("{}, step {}: {timed}", self.name, self.times.len() + 1);
        self.times.push(timed);
        let wanted = usize::try_from(WANTED)?;
        let ready = pods::until_ready(&self.namespace, self.name, wanted);
        // Whatever comes of it, the next one has waited long enough.
        let _ = timeout(SETTLE, ready).await;
        self.stepped = Some(Stepped { burst, replicas });
        Ok(())
    }

    /// Ends all load and returns what came of the steps.
    pub(super) async fn end(mut self) -> anyhow::Result<Steps> {
        self.calm().await?;
        self.before.finish().await;
        let verdict = self.ledger.verdict();
        ensure!(verdict.sent() > 0, "{} was never asked", self.name);
        Ok(Steps {
            times: self.times,
            most: self.most,
            sent: verdict.sent(),
            lost: verdict.sent() - verdict.answered(),
        })
    }
}

fn load(target: SocketAddr, host: Option<&'static str>, ledger: &Ledger) -> Load {
    let load = Load::new(target, ledger.clone());
    match host {
        Some(host) => load.of_host(host),
        None => load,
    }
}

fn scaling(name: &str, metadata: &[(&str, &str)]) -> Scaling {
    Scaling {
        behavior: Scene::scaling(&[], &[]).behavior,
        ..Scaling::new(name, metadata)
    }
}
