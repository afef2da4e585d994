//! A request at zero waits for the first pod, and the workload sleeps again once nobody asks.

use std::time::Duration;

use anyhow::{Context, ensure};
use http::StatusCode;
use stillwake_e2e::{
    client,
    cluster::{self, Failure, Namespace, scaling::Scaling, scene::WEB, stillwake::Stillwake, zero},
    settings::setting,
};
use tokio::time::Instant;

/// How many cold starts follow each other, instead of [`FEW`].
const STARTS: &str = "STILLWAKE_COLD_STARTS";

const FEW: usize = 5;

/// How many requests come so far apart that the workload sleeps in between, instead of [`RARE`].
const TRICKLE: &str = "STILLWAKE_TRICKLE";

const RARE: usize = 4;

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
        let rare = setting(TRICKLE, RARE)?;
        let falling_asleep =
            |number: usize| Duration::from_millis(2000 + 150 * (number as u64 % 15));
        let (first, often, rarely) = tokio::try_join!(
            // About as far apart as it takes to sleep, so that requests come before, in the middle of it and after.
            trickle(namespace, &stillwake, WEB, 2, 30, falling_asleep),
            trickle(namespace, &stillwake, "often", 5, rare * 10, |_| {
                Duration::from_secs(2)
            }),
            trickle(namespace, &stillwake, "rarely", 10, rare, |_| {
                Duration::from_secs(20)
            }),
        )?;
        eprintln!(
            "woken by {first} of 30 about as far apart as it takes to sleep; by {often} of {} each 2 s, cooldown 5 s; by \
             {rarely} of {rare} each 20 s, cooldown 10 s",
            rare * 10
        );
        ensure!(first > 1 && rarely > 1, "they did not sleep in between");
        ensure!(
            often == 1,
            "it slept in spite of requests within its cooldown"
        );
        Ok(())
    })
}

/// Sends requests to a workload that sleeps at first, so far apart. Returns how many of them woke it.
async fn trickle(
    namespace: &Namespace,
    stillwake: &Stillwake,
    name: &str,
    cooldown: u64,
    count: usize,
    apart: impl Fn(usize) -> Duration,
) -> anyhow::Result<usize> {
    let scaling = Scaling {
        cooldown: Duration::from_secs(cooldown),
        ..zero::scaling(name, &[("targetConcurrency", "10")])
    };
    let web = zero::app(name);
    let service = zero::put_to_sleep(namespace, stillwake, &web, &scaling).await?;
    let mut woken = 0;
    for number in 0..count {
        let answer = client::get_as(service, "/bytes?length=100", number as u64).await;
        let answer = answer.with_context(|| format!("request {number} to {name}"))?;
        ensure!(
            answer.status == StatusCode::OK && answer.request_id() == Some(number as u64),
            "request {number} to {name}: {} {}",
            answer.status,
            answer.text()
        );
        woken += usize::from(answer.cold_start().is_some());
        // The pause is what is tried.
        tokio::time::sleep(apart(number)).await;
    }
    Ok(woken)
}
