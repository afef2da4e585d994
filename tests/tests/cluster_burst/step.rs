//! Load steps under plain KEDA: how soon the HPA asks for all replicas.
//!
//! How long it takes is printed. What is asserted is that it gets there, without going too far and without a loss.

use std::time::Duration;

use anyhow::ensure;
use stillwake_e2e::{
    cluster::{
        self, Failure,
        history::History,
        scene::{Scene, WEB},
        stillwake::{Component, Stillwake},
    },
    ledger::Ledger,
    load::Load,
    settings::setting,
};
use tokio::time::Instant;

use crate::{are_asked_for, hpa, opens_streams};

/// How many steps follow each other, instead of [`FEW`].
const STEPS: &str = "STILLWAKE_BURSTS";

const FEW: usize = 2;

/// Requests of a step: with the five that are there already clearly eight replicas, also while sums of reports are off by
/// some. `make bench-burst` takes what is eight just so.
const BURST: u32 = 70;

/// How long a request takes.
const TIME: Duration = Duration::from_secs(2);

#[test]
fn a_load_step_is_answered_without_going_too_far() -> Result<(), Failure> {
    cluster::run("burst", async |namespace| {
        let count = setting(STEPS, FEW)?;
        let stillwake = Stillwake::with_defaults(namespace).await?;
        let scaling = Scene::scaling(&[("targetConcurrency", "10")], &[]);
        let (_, service) = Scene::web().start(namespace).await?;
        scaling.start(namespace, &stillwake).await?;
        let ledger = Ledger::default();
        let written = hpa::writes(namespace, WEB).await?;
        let base = Load::new(service, ledger.clone());
        base.steady(5, TIME);
        let mut times = Vec::new();
        for step in 1..=count {
            let replicas = History::of_replicas(namespace, WEB).await?;
            // So that steps come at any moment of the HPA's period.
            tokio::time::sleep(Duration::from_millis(rand::random_range(0..15_000))).await;
            let burst = Load::new(service, ledger.clone());
            let begun = Instant::now();
            burst.steady(BURST, TIME);
            let grown = replicas.until(&8).await?;
            let took = grown.at.saturating_duration_since(begun);
            let values = replicas.values();
            eprintln!("step {step}: 8 replicas asked for after {took:?}, {values:?}");
            // One look is enough where the machine lets all clients begin at once.
            ensure!(values.is_sorted(), "step {step}: {values:?} replicas");
            times.push(took);
            burst.finish().await;
            replicas.until(&1).await?;
            let most = replicas.values().into_iter().max();
            ensure!(most == Some(8), "step {step}: {most:?} replicas at most");
        }
        base.finish().await;
        let writes = hpa::writes(namespace, WEB).await? - written;
        let at_once = are_asked_for(namespace)?;
        eprintln!("the HPA was written {writes} times");
        if at_once {
            // One for each step, and one where a stream is opened anew on an aggregator that has not moved the target.
            let most = 3 * i64::try_from(count)?;
            ensure!((1..=most).contains(&writes), "{writes} in {count} steps");
        } else if opens_streams(namespace)? {
            ensure!(writes <= 3, "{writes} writes that nobody follows");
        } else {
            ensure!(writes == 0, "{writes} writes that nobody follows");
            for state in stillwake.states(Component::Aggregator).await?.values() {
                ensure!(state["bursts"]["spec_streams"] == 0, "{state}");
            }
        }
        times.sort();
        let verdict = ledger.verdict();
        eprintln!(
            "{count} steps: median {:?}; {verdict}",
            times[(count - 1) / 2]
        );
        verdict.assert_nothing_lost();
        Ok(())
    })
}
