//! A labelled Deployment of the suites' app under a `ScaledObject` and a load, and the account of all three.
//!
//! What the load is to be and what is to follow from it is the suites' own.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Namespace, counts,
    history::History,
    pods::{self, INJECT},
    scaling::{self, Scaling},
    stillwake::Stillwake,
    watching,
    web::{By, Web},
};
use crate::{ledger::Ledger, load::Load, wait};

/// What the Deployment, its Service and its `ScaledObject` are called.
pub const WEB: &str = "web";

/// What the triggers say as `window`. All of it is soon after a change; and it is long enough for what a report leaves
/// open, which is what happens until the next one, to be little of it.
pub const WINDOW: Duration = Duration::from_secs(20);

/// How far what KEDA says may be from what was sent.
const TOLERANCE: f64 = 0.02;

/// Requests that began after a sidecar's last report are not known yet. A busy one reports each second; this is two.
const UNREPORTED: Duration = Duration::from_secs(2);

/// How often KEDA is asked.
const APART: Duration = Duration::from_secs(1);

/// All of it. The load begins with [`Self::load`]'s first client.
#[derive(Debug)]
pub struct Scene {
    namespace: Namespace,
    /// What is sent.
    pub load: Load,
    /// What became of it.
    pub ledger: Ledger,
    /// How many replicas are wanted.
    pub replicas: History<i32>,
}

impl Scene {
    /// Returns the Deployment: one replica, counted by the name of its port.
    pub fn web() -> Web {
        Web {
            // While the Service still leads to a pod that ends, its app has to answer.
            linger: Duration::from_secs(8),
            target: By::Name,
            ..Web::new(WEB).label(INJECT, "enabled")
        }
    }

    /// Returns a `ScaledObject` for it, with which the HPA scales up and down as fast as it can, so that each wrong number
    /// would be seen.
    pub fn scaling(metadata: &[(&str, &str)], others: &[Value]) -> Scaling {
        let window = format!("{}s", WINDOW.as_secs());
        Scaling {
            others: others.to_vec(),
            behavior: json!({
                "scaleUp": {"policies": [{"type": "Percent", "value": 900, "periodSeconds": 1}]},
                "scaleDown": {"stabilizationWindowSeconds": 0},
            }),
            ..Scaling::new(WEB, &[metadata, &[("window", &window)]].concat())
        }
    }

    /// Starts the Deployment and then scales it.
    ///
    /// # Errors
    ///
    /// When one of them does not come up.
    pub async fn set(
        namespace: &Namespace,
        stillwake: &Stillwake,
        scaling: &Scaling,
    ) -> anyhow::Result<Self> {
        let (pods, service) = Self::web().start(namespace).await?;
        counts::until_in_flight(stillwake, &pods, 0).await?;
        scaling.start(namespace, stillwake).await?;
        let ledger = Ledger::default();
        Ok(Self {
            namespace: namespace.clone(),
            load: Load::new(service, ledger.clone()),
            ledger,
            replicas: History::of_replicas(namespace, WEB).await?,
        })
    }

    /// Waits until there are so many replicas, and never were more, and all take requests.
    ///
    /// # Errors
    ///
    /// When there are not, with how many there were.
    pub async fn grown(&self, count: usize) -> anyhow::Result<()> {
        let wanted = i32::try_from(count)?;
        self.replicas.until(&wanted).await?;
        pods::until_ready(&self.namespace, WEB, count).await?;
        let (values, now) = (self.replicas.values(), Instant::now());
        // A machine that stands still sends less, which is then no mistake of whoever scales by it.
        ensure!(
            values.is_sorted() && values.last() == Some(&wanted),
            "there were {values:?} replicas, with {:.1} in flight and {:.2} begun each second of the last {WINDOW:?}",
            self.ledger.concurrency(WINDOW, now),
            self.ledger.rate(WINDOW, now),
        );
        Ok(())
    }

    /// Fails unless KEDA says of a metric what the load was in its window. Returns both.
    async fn is_right(&self, metric: &str) -> anyhow::Result<(f64, f64)> {
        let now = Instant::now();
        let seen = scaling::external_metric(&self.namespace, WEB, metric).await?;
        let (sent, least, most) = if metric.ends_with("concurrency") {
            let sent = self.ledger.concurrency(WINDOW, now);
            (sent, sent, sent)
        } else {
            // The window of each sidecar ends with its last report, wherever in this time that was.
            let (shorter, longer) = (WINDOW.saturating_sub(UNREPORTED), WINDOW + UNREPORTED);
            let part = |window: Duration, end| {
                self.ledger.rate(window, end) * window.as_secs_f64() / WINDOW.as_secs_f64()
            };
            let sent = self.ledger.rate(WINDOW, now);
            (sent, part(shorter, now - UNREPORTED), part(longer, now))
        };
        let right = (1.0 - TOLERANCE) * least..=(1.0 + TOLERANCE) * most;
        ensure!(right.contains(&seen), "{metric} is {seen} of {sent}");
        Ok((seen, sent))
    }

    /// Waits until no more requests were sent in the window than come each second, for clients and for aggregators; those
    /// that a load begins with are more, and leave the aggregators' window a report later.
    ///
    /// # Errors
    ///
    /// When it does not come to it.
    pub async fn settled(&self, stillwake: &Stillwake, rate: f64) -> anyhow::Result<()> {
        let what = format!("at most {rate} requests per second");
        let tolerated = rate * (1.0 + TOLERANCE);
        wait::until(&what, watching::PATIENCE, async || {
            self.ledger.ensure_lasted(WINDOW)?;
            let sent = self.ledger.rate(WINDOW, Instant::now());
            ensure!(sent <= rate, "{sent} sent");
            for seen in scaling::seen(stillwake, &self.namespace, WEB).await? {
                let seen = seen["request_rate"].as_f64().unwrap_or(f64::INFINITY);
                ensure!(seen <= tolerated, "{seen} seen");
            }
            anyhow::Ok(())
        })
        .await
    }

    /// Waits until KEDA says of these metrics what is sent.
    ///
    /// # Errors
    ///
    /// When it does not come to it, with what it says.
    pub async fn right(&self, metrics: &[String]) -> anyhow::Result<()> {
        let what = "KEDA to say what is sent";
        wait::until(what, watching::PATIENCE, async || {
            self.ledger.ensure_lasted(WINDOW)?;
            for metric in metrics {
                if let Err(wrong) = self.is_right(metric).await {
                    // KEDA 2.21 takes a workload for idle if somebody else asks it in the moment in which its own poll
                    // fails, as it drops the scaler then. An HPA rarely does; who asks all the time does it each time.
                    tokio::time::sleep(APART).await;
                    return Err(wrong);
                }
            }
            anyhow::Ok(())
        })
        .await
    }

    /// Sees to it that KEDA goes on saying what is sent, and that the number of replicas stays.
    ///
    /// # Errors
    ///
    /// When one of them changes, with what it became.
    pub async fn stays(&self, metrics: &[String], time: Duration) -> anyhow::Result<()> {
        self.right(metrics).await?;
        let (before, begun) = (self.replicas.values(), Instant::now());
        let mut furthest = (0.0, String::new());
        while begun.elapsed() < time {
            for metric in metrics {
                let (seen, sent) = self.is_right(metric).await?;
                let off = (seen / sent - 1.0).abs();
                if off > furthest.0 {
                    furthest = (off, format!("{metric} {seen:.2} of {sent:.2}"));
                }
            }
            // Nothing is waited for: it is to stay as it is.
            tokio::time::sleep(APART).await;
        }
        eprintln!("steady for {time:?}; furthest off: {}", furthest.1);
        let after = self.replicas.values();
        ensure!(after == before, "it did not stay: {after:?} replicas");
        Ok(())
    }

    /// Ends the load without a loss, and waits until there are so many replicas, all of them by the HPA's decision.
    ///
    /// # Errors
    ///
    /// When it does not come to that.
    ///
    /// # Panics
    ///
    /// With the requests that were lost.
    pub async fn shrunk(self, count: usize) -> anyhow::Result<()> {
        self.load.finish().await;
        let verdict = self.ledger.verdict();
        verdict.assert_nothing_lost();
        self.replicas.until(&i32::try_from(count)?).await?;
        for change in self.replicas.changes().iter().skip(1) {
            let writer = change.writer.as_ref();
            let manager = writer.map(|writer| writer.manager.as_str());
            ensure!(
                manager == Some("kube-controller-manager"),
                "{manager:?} wrote {}",
                change.value
            );
        }
        eprintln!("{:?} replicas; {verdict}", self.replicas.values());
        Ok(())
    }
}
