//! A request at zero waits for the first pod, and the workload sleeps again once nobody asks.

use std::time::Duration;

use anyhow::{Context, ensure};
use http::StatusCode;
use stillwake_e2e::{
    client,
    cluster::{self, Failure, scene::WEB, stillwake::Stillwake, zero},
    settings::setting,
};
use tokio::time::Instant;

/// How many cold starts follow each other, instead of [`FEW`].
const STARTS: &str = "STILLWAKE_COLD_STARTS";

const FEW: usize = 5;

#[test]
fn cold_starts_follow_each_other_and_all_are_answered() -> Result<(), Failure> {
    cluster::run("cold starts", async |namespace| {
        let count = setting(STARTS, FEW)?;
        let stillwake = Stillwake::with_defaults(namespace).await?;
        let scaling = zero::scaling(WEB, &[("targetConcurrency", "10")]);
        let web = zero::app(WEB);
        let service = zero::put_to_sleep(namespace, &stillwake, &web, &scaling).await?;
        let mut times = Vec::new();
        for start in 1..=count {
            let sent = Instant::now();
            let answer = client::get_as(service, "/bytes?length=100", start as u64).await;
            let answer = answer.with_context(|| format!("cold start {start}"))?;
            times.push(sent.elapsed());
            ensure!(
                answer.status == StatusCode::OK && answer.request_id() == Some(start as u64),
                "cold start {start}: {} {}",
                answer.status,
                answer.text()
            );
            ensure!(
                answer.cold_start().is_some(),
                "cold start {start} did not wait: {:?}",
                answer.headers
            );
            zero::until_asleep(namespace, WEB).await?;
        }
        times.sort();
        let at = |share: usize| times[(times.len() - 1) * share / 100];
        eprintln!("{count} cold starts: median {:?}, p95 {:?}", at(50), at(95));
        Ok(())
    })
}

#[test]
fn a_trickle_never_meets_a_closed_door() -> Result<(), Failure> {
    cluster::run("trickle", async |namespace| {
        let stillwake = Stillwake::with_defaults(namespace).await?;
        let scaling = zero::scaling(WEB, &[("targetConcurrency", "10")]);
        let web = zero::app(WEB);
        let service = zero::put_to_sleep(namespace, &stillwake, &web, &scaling).await?;
        let mut slept = 0;
        // About as far apart as it takes to sleep, so that requests come before, in the middle of it and after.
        for number in 0..30_u64 {
            let answer = client::get_as(service, "/bytes?length=100", number).await;
            let answer = answer.with_context(|| format!("request {number}"))?;
            ensure!(
                answer.status == StatusCode::OK,
                "request {number}: {} {}",
                answer.status,
                answer.text()
            );
            slept += usize::from(answer.cold_start().is_some());
            // The pause is what is tried.
            tokio::time::sleep(Duration::from_millis(2000 + 150 * (number % 15))).await;
        }
        eprintln!("{slept} of 30 requests woke it");
        ensure!(slept > 1, "it did not sleep in between");
        Ok(())
    })
}
