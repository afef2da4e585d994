//! Many first requests at once, for one workload and for another in the same moment.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};
use http::StatusCode;
use serde_json::json;
use stillwake_e2e::{
    client,
    cluster::{
        self, Failure, bare::Bare, scaling::Scaling, scene::WEB, stillwake::Stillwake, zero,
    },
    settings::setting,
};
use tokio::{
    runtime,
    task::{JoinSet, spawn_blocking},
    time::Instant,
};

/// What one workload may have waiting by default.
const CROWD: u64 = 1000;

/// What all activators together let wait for their heads at one pod: two of them, with 100 each.
const CAP: u64 = 200;

/// What the crowd asks for. The head takes long enough for all of them to wait for it at once, if they were let.
const PATH: &str = "/slow?ms=800";

/// How often it comes, instead of [`ROUNDS`] times.
const CROWDS: &str = "STILLWAKE_CROWDS";

const ROUNDS: usize = 2;

/// How much longer than alone another's cold start may take, as a factor; beyond what a pod takes longer that nobody asks for
/// by a request, as the crowd and the whole cluster share a machine.
const SLOWER: f64 = 1.2;

/// In which rounds are too few for a factor as close as [`SLOWER`].
const ENOUGH: usize = 5;

#[test]
fn a_thousand_first_requests_are_answered_and_others_are_not_kept_waiting() -> Result<(), Failure> {
    cluster::run("crowd", async |namespace| {
        let rounds = setting(CROWDS, ROUNDS)?;
        ensure!(rounds > 0, "{CROWDS} has to be 1 at least");
        // Alone: others' load would be taken for the crowd's.
        let stillwake = Stillwake::with_values(namespace, &json!({})).await?;
        let elsewhere = namespace.another("beside", &[], &[]).await?;
        let scaling = Scaling {
            max: 1,
            ..zero::scaling(WEB, &[("targetConcurrency", "500")])
        };
        let web = zero::app(WEB);
        let (crowded, other, bare) = tokio::try_join!(
            zero::put_to_sleep(namespace, &stillwake, &web, &scaling),
            zero::put_to_sleep(&elsewhere, &stillwake, &web, &scaling),
            Bare::start(&elsewhere),
        )?;
        let [mut alone, mut beside, mut bare_alone, mut bare_beside] = [const { Vec::new() }; 4];
        // The times of the first round are not counted: names, addresses and images are looked up for the first time in it.
        for round in 0..=rounds {
            let answer_alone = first_answer(other).await?;
            let pod_alone = bare.wake().await?.1;
            tokio::try_join!(bare.sleep(), zero::until_asleep(&elsewhere, WEB))?;

            let crowd = Crowd::come(crowded);
            let (answer, pod) = tokio::try_join!(first_answer(other), bare.wake())?;
            let direct = crowd.answered().await?;
            let busiest: u64 = client::get(crowded, "/busiest").await?.text().parse()?;
            ensure!(
                busiest <= CAP + direct,
                "{busiest} requests at once at the first pod, of which {direct} at most came to it by themselves"
            );
            eprintln!(
                "{round} of {rounds}: {answer:?} beside a crowd and {answer_alone:?} alone, a bare pod {:?} and {pod_alone:?}; \
                 {busiest} at once at the first pod",
                pod.1
            );
            if round > 0 {
                alone.push(answer_alone);
                bare_alone.push(pod_alone);
                beside.push(answer);
                bare_beside.push(pod.1);
            }
            tokio::try_join!(
                bare.sleep(),
                zero::until_asleep(&elsewhere, WEB),
                zero::until_asleep(namespace, WEB)
            )?;
        }
        let ours = factor(&mut beside, &mut alone);
        let machine = factor(&mut bare_beside, &mut bare_alone);
        eprintln!(
            "a cold start beside a crowd of {CROWD} took {ours:.2} times as long as alone, a bare pod {machine:.2} times; \
             medians of {rounds}"
        );
        ensure!(
            rounds < ENOUGH || ours <= machine.max(1.0) * SLOWER,
            "{ours:.2} times as long, where a bare pod takes {machine:.2} times"
        );
        Ok(())
    })
}

/// First requests that come together.
struct Crowd(JoinSet<anyhow::Result<bool>>);

impl Crowd {
    fn come(service: SocketAddr) -> Self {
        let mut all = JoinSet::new();
        for id in 0..CROWD {
            all.spawn(async move {
                let answer = client::get_as(service, PATH, id).await?;
                ensure!(
                    answer.status == StatusCode::OK && answer.request_id() == Some(id),
                    "request {id}: {} {}",
                    answer.status,
                    answer.text()
                );
                Ok(answer.cold_start().is_some())
            });
        }
        Self(all)
    }

    /// Waits until each has its answer. Returns how many came too late to be held.
    async fn answered(mut self) -> anyhow::Result<u64> {
        let mut direct = 0;
        while let Some(answered) = self.0.join_next().await {
            direct += u64::from(!answered?.context("one of the crowd")?);
        }
        Ok(direct)
    }
}

/// Sends a first request and returns how long it takes until the answer is complete. On a thread of its own, as whoever sends
/// it is no part of the crowd.
async fn first_answer(service: SocketAddr) -> anyhow::Result<Duration> {
    let asked = spawn_blocking(move || {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let begun = Instant::now();
            let answer = client::get(service, "/bytes?length=100").await?;
            let took = begun.elapsed();
            zero::ensure_waited(&answer).context("one beside the crowd")?;
            Ok(took)
        })
    });
    asked.await?
}

/// Returns how many times as long the one takes as the other, by their medians.
fn factor(times: &mut [Duration], others: &mut [Duration]) -> f64 {
    let [times, others] = [times, others].map(|times| {
        times.sort();
        times[(times.len() - 1) / 2]
    });
    times.as_secs_f64() / others.as_secs_f64()
}
