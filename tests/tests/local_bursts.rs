//! Bursts while the HPA's own turn is far away.
//!
//! Shows that what is asked for comes from looks that the aggregator asks for, over the real streams: at one replica and
//! right after the first.

#![expect(clippy::unwrap_used, reason = "helpers of a suite are tests as well")]

use std::time::Duration;

use anyhow::ensure;
use stillwake_e2e::{
    binaries,
    ledger::Ledger,
    load::{Kind, Load},
    local::{Options, Stillwake},
    wait::{self, PATIENCE},
};

const SLOW: Duration = Duration::from_secs(1);

fn options() -> Options {
    Options::quick()
        .with("--target-concurrency", 10)
        .with("--max", 6)
        // No turn but the one at the start.
        .with("--sync-period", "1h")
        .with("--scale-up-percent", 900)
}

/// Sends fifty requests at a time, for which five replicas are right.
async fn burst(stillwake: &Stillwake) {
    let ledger = Ledger::default();
    let load = Load::new(stillwake.address, ledger.clone());
    load.clients(50, Kind::Slow(SLOW));
    let asked = wait::until("five replicas to be asked for", PATIENCE, || async {
        let desired = stillwake.state().await?.desired();
        ensure!(desired >= 5, "{desired} are");
        let metrics = stillwake.metrics().await?;
        let read = metrics.sum("stillwake_aggregator_bursts_total", &[("outcome", "read")])?;
        ensure!(read >= 1.0, "no look has followed");
        anyhow::Ok(())
    });
    let asked = asked.await;
    load.finish().await;
    asked.unwrap();
    ledger.verdict().assert_nothing_lost();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_on_one_replica_is_answered_without_the_hpas_own_turn() {
    let app = binaries::app().unwrap();
    let command = [app.to_str().unwrap(), "--port={port}"];
    let stillwake = Stillwake::run(options().with("--min", 1), &command)
        .await
        .unwrap();
    wait::until("the replica to be ready", PATIENCE, || async {
        let ready = stillwake.state().await?.ready().count();
        ensure!(ready == 1, "{ready} are");
        anyhow::Ok(())
    })
    .await
    .unwrap();
    burst(&stillwake).await;
    stillwake.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_on_none_is_answered_right_after_the_first() {
    let app = binaries::app().unwrap();
    let command = [app.to_str().unwrap(), "--port={port}"];
    let stillwake = Stillwake::run(options(), &command).await.unwrap();
    let first = Load::new(stillwake.address, Ledger::default());
    first.clients(1, Kind::Slow(SLOW));
    // The turn at the start is taken with that: it knows of no other.
    wait::until("the first replica", PATIENCE, || async {
        let desired = stillwake.state().await?.desired();
        ensure!(desired == 1, "{desired} are asked for");
        anyhow::Ok(())
    })
    .await
    .unwrap();
    burst(&stillwake).await;
    first.finish().await;
    stillwake.stop().await.unwrap();
}
