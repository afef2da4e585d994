//! Parts that fail in the middle of a burst: nothing is taken away, and the target is the user's in the end.
//!
//! Has the release alone, as it breaks it.

use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
};
use serde_json::json;
use stillwake_e2e::{
    cluster::{
        self, Failure, Namespace,
        history::History,
        keda, pods,
        scene::{Scene, WEB},
        stillwake::{Component, Stillwake},
    },
    ledger::Ledger,
    load::Load,
    wait,
};

use crate::hpa;

/// Requests in flight for each replica.
const TARGET: u32 = 10;

/// Requests of the burst: with the five that are there already clearly three replicas, also where a busy machine keeps
/// clients from sending for a fifth of the time.
const BURST: u32 = 20;

/// Replicas for that.
const GROWN: i32 = 3;

/// Two looks of the HPA and some time.
const TWO_LOOKS: Duration = Duration::from_secs(35);

#[test]
fn what_fails_in_a_burst_takes_no_replica_away_and_leaves_the_target() -> Result<(), Failure> {
    cluster::run("burst faults", async |namespace| {
        let stillwake = Stillwake::with_values(namespace, &json!({})).await?;
        let target = TARGET.to_string();
        let scaling = Scene::scaling(&[("targetConcurrency", &target)], &[]);
        let (_, service) = Scene::web().start(namespace).await?;
        scaling.start(namespace, &stillwake).await?;
        let ledger = Ledger::default();
        let base = Load::new(service, ledger.clone());
        base.steady(5, Duration::from_secs(2));
        for fault in [Fault::Aggregator, Fault::Aggregators, Fault::Operator] {
            let replicas = History::of_replicas(namespace, WEB).await?;
            replicas.until(&1).await?;
            pods::until_ready(namespace, WEB, 1).await?;
            let burst = Load::new(service, ledger.clone());
            burst.steady(BURST, Duration::from_secs(2));
            replicas.until(&GROWN).await?;
            fault.happen(namespace, &stillwake).await?;
            // Nothing is waited for: it is to stay as it is.
            tokio::time::sleep(TWO_LOOKS).await;
            let values = replicas.values();
            ensure!(values.is_sorted(), "{fault:?}: {values:?} replicas");
            ensure!(
                values.last() == Some(&GROWN),
                "{fault:?}: {values:?} replicas"
            );
            stillwake.rolled_out(Component::Aggregator).await?;
            hpa::ensure_target(namespace, WEB, f64::from(TARGET)).await?;
            burst.finish().await;
            replicas.until(&1).await?;
            eprintln!("{fault:?}: {:?} replicas", replicas.values());
        }
        base.finish().await;
        let verdict = ledger.verdict();
        eprintln!("{verdict}");
        verdict.assert_nothing_lost();
        Ok(())
    })
}

/// What happens right after the look that was asked for.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The aggregator that asked is killed.
    Aggregator,
    /// All are, so that for a moment nobody answers what the specs are either.
    Aggregators,
    /// KEDA's operator is.
    Operator,
}

impl Fault {
    async fn happen(self, namespace: &Namespace, stillwake: &Stillwake) -> anyhow::Result<()> {
        let system = namespace.elsewhere(stillwake.namespace()).api::<Pod>();
        match self {
            Self::Aggregator => {
                let states = stillwake.states(Component::Aggregator).await?;
                let with_stream = states
                    .iter()
                    .find(|(_, state)| state["bursts"]["spec_streams"] != 0)
                    .or_else(|| states.iter().next());
                let (name, _) = with_stream.context("there is no aggregator")?;
                kill(&system, name).await
            }
            Self::Aggregators => {
                for pod in stillwake.replicas(Component::Aggregator).await? {
                    kill(&system, &pod.name_any()).await?;
                }
                Ok(())
            }
            Self::Operator => {
                let operators = namespace.elsewhere(keda::NAMESPACE).api::<Pod>();
                let selected = ListParams::default().labels("app=keda-operator");
                let before = operators.list(&selected).await?;
                for pod in &before {
                    kill(&operators, &pod.name_any()).await?;
                }
                let what = "another operator of KEDA's";
                wait::until(what, cluster::watching::PATIENCE, async || {
                    let now = operators.list(&selected).await?;
                    let is_other = |pod: &Pod| before.iter().all(|old| old.uid() != pod.uid());
                    let ready = now
                        .iter()
                        .any(|pod| is_other(pod) && cluster::watching::is_ready(pod));
                    ensure!(ready, "there is none yet");
                    anyhow::Ok(())
                })
                .await
            }
        }
    }
}

async fn kill(pods: &Api<Pod>, name: &str) -> anyhow::Result<()> {
    let now = DeleteParams::default().grace_period(0);
    pods.delete(name, &now).await?;
    Ok(())
}
