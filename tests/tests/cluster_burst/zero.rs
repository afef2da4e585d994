//! A crowd that comes to a workload at zero.

use std::time::Duration;

use anyhow::ensure;
use stillwake_e2e::{
    cluster::{self, Failure, history::History, stillwake::Stillwake, zero},
    ledger::Ledger,
    load::Load,
};
use tokio::time::Instant;

use crate::are_asked_for;

const NAME: &str = "crowded";

/// Far above the second that it takes, and below what the HPA takes by itself.
const LIMIT: Duration = Duration::from_secs(5);

#[test]
fn two_hundred_first_requests_ask_for_ten_replicas_at_once() -> Result<(), Failure> {
    cluster::run("crowd at zero", async |namespace| {
        let stillwake = Stillwake::with_defaults(namespace).await?;
        let scaling = zero::scaling(NAME, &[("targetConcurrency", "20")]);
        let service = zero::put_to_sleep(namespace, &stillwake, &zero::app(NAME), &scaling).await?;
        let replicas = History::of_replicas(namespace, NAME).await?;
        let ledger = Ledger::default();
        let load = Load::new(service, ledger.clone());
        let begun = Instant::now();
        load.steady(200, Duration::from_secs(4));
        let first = replicas.until_that("a replica", |count| *count > 0).await?;
        let grown = replicas.until(&10).await?;
        let after = |at: Instant| at.saturating_duration_since(begun);
        let (first, took) = (after(first.at), after(grown.at));
        eprintln!(
            "200 first requests: the first replica asked for after {first:?}, 10 after {took:?}"
        );
        if are_asked_for(namespace)? {
            ensure!(took < LIMIT, "{took:?}");
        }
        load.finish().await;
        let verdict = ledger.verdict();
        eprintln!("{:?} replicas; {verdict}", replicas.values());
        verdict.assert_nothing_lost();
        zero::until_empty(namespace, NAME).await
    })
}
