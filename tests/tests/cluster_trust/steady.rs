//! A workload under a constant load, and the numbers that have to stay as they are.

use std::{convert::Infallible, time::Duration};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use stillwake_e2e::{
    cluster::{
        Namespace, counts,
        history::History,
        pods::{self, INJECT},
        scaling::{self, Scaling},
        stillwake::Stillwake,
        watching,
        web::Web,
    },
    ledger::Ledger,
    load::{Kind, Load},
    wait,
};
use tokio::time::{Instant, sleep};

use crate::keda;

/// What the Deployment and its `ScaledObject` are called.
pub(crate) const WEB: &str = "web";

/// 6 in flight at 5 each.
pub(crate) const REPLICAS: usize = 2;

const IN_FLIGHT: usize = 6;

/// As the triggers say.
const WINDOW: Duration = Duration::from_secs(10);

/// How far a number may be from what was sent: less than one request that is not there, or one too many.
const TOLERANCE: f64 = 0.9;

/// How often it is looked at.
const INTERVAL: Duration = Duration::from_millis(500);

/// The workload, its load, and all that was seen of its replicas.
pub(crate) struct Steady<'a> {
    namespace: &'a Namespace,
    stillwake: &'a Stillwake,
    metric: String,
    replicas: History<i32>,
    ledger: Ledger,
    load: Load,
}

impl<'a> Steady<'a> {
    /// Starts it, and returns once the numbers are what is sent.
    pub(crate) async fn begin(
        namespace: &'a Namespace,
        stillwake: &'a Stillwake,
        authentication: Option<&str>,
    ) -> anyhow::Result<Self> {
        let web = Web {
            replicas: REPLICAS,
            // While the Service still leads to a pod that ends, its app has to answer.
            linger: Duration::from_secs(8),
            ..Web::new(WEB).label(INJECT, "enabled")
        };
        let (pods, service) = web.start(namespace).await?;
        counts::until_in_flight(stillwake, &pods, 0).await?;
        let ledger = Ledger::default();
        let load = Load::new(service, ledger.clone());
        // Each on a connection that stays: what a report said a moment ago is then still so, however busy the machine is.
        load.clients(IN_FLIGHT, Kind::Slow(Duration::from_secs(3)));
        counts::until_in_flight(stillwake, &pods, IN_FLIGHT as u64).await?;
        let scaling = keda::scaling(WEB, authentication);
        // Until the window is full of the load, the HPA would scale down.
        let floored = Scaling {
            min: REPLICAS,
            ..scaling.clone()
        };
        floored.start(namespace, stillwake).await?;
        let metrics = scaling.metrics(namespace).await?;
        let steady = Self {
            namespace,
            stillwake,
            metric: metrics.into_iter().next().context("KEDA has no metric")?,
            replicas: History::of_replicas(namespace, WEB).await?,
            ledger,
            load,
        };
        steady.right().await?;
        scaling.start(namespace, stillwake).await?;
        Ok(steady)
    }

    /// Returns its pods.
    pub(crate) async fn pods(&self) -> anyhow::Result<Vec<Pod>> {
        pods::until_ready(self.namespace, WEB, REPLICAS).await
    }

    /// Waits until the numbers are what is sent, for a whole window.
    pub(crate) async fn right(&self) -> anyhow::Result<()> {
        let what = "numbers as they were sent";
        wait::until(what, watching::PATIENCE, async || {
            self.ledger.ensure_lasted(WINDOW)?;
            self.look().await
        })
        .await
    }

    /// Looks over and over, and fails once a number is wrong.
    pub(crate) async fn stays(&self) -> anyhow::Result<Infallible> {
        loop {
            self.look().await?;
            sleep(INTERVAL).await;
        }
    }

    /// Runs `body` while the numbers stay right.
    pub(crate) async fn during<T>(
        &self,
        body: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        tokio::select! {
            outcome = body => outcome,
            moved = self.stays() => match moved? {},
        }
    }

    /// Compares what every aggregator and KEDA say with what is sent, and sees to it that nothing was scaled.
    async fn look(&self) -> anyhow::Result<()> {
        let sent = self.ledger.concurrency(WINDOW, Instant::now());
        let is_right = |value: f64| (value - sent).abs() < TOLERANCE;
        for seen in scaling::seen(self.stillwake, self.namespace, WEB).await? {
            let concurrency = seen["concurrency"].as_f64().unwrap_or(f64::NAN);
            ensure!(
                seen["known"] == true && is_right(concurrency),
                "{sent} in flight, and an aggregator says {seen}"
            );
        }
        let told = scaling::external_metric(self.namespace, WEB, &self.metric).await?;
        ensure!(is_right(told), "{sent} in flight, and KEDA says {told}");
        self.unscaled()
    }

    /// Fails if the number of replicas has ever been another.
    pub(crate) fn unscaled(&self) -> anyhow::Result<()> {
        let values = self.replicas.values();
        let is_so = values
            .iter()
            .all(|value| usize::try_from(*value) == Ok(REPLICAS));
        ensure!(is_so, "there were {values:?} replicas");
        Ok(())
    }

    /// Ends the load; nothing of it may be lost.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        self.unscaled()?;
        self.load.finish().await;
        let verdict = self.ledger.verdict();
        verdict.assert_nothing_lost();
        eprintln!("{verdict}");
        Ok(())
    }
}
