//! Many first requests at once, for one workload and for another in the same moment.

use anyhow::{Context, ensure};
use http::StatusCode;
use stillwake_e2e::{
    client,
    cluster::{self, Failure, scene::WEB, stillwake::Stillwake, zero},
};
use tokio::{task::JoinSet, time::Instant};

/// What one workload may have waiting by default.
const CROWD: u64 = 1000;

#[test]
fn a_thousand_first_requests_are_answered_and_others_are_not_kept_waiting() -> Result<(), Failure> {
    cluster::run("crowd", async |namespace| {
        let stillwake = Stillwake::with_defaults(namespace).await?;
        let beside = namespace.another("beside", &[], &[]).await?;
        let scaling = zero::scaling(WEB, &[("targetConcurrency", "500")]);
        let web = zero::app(WEB);
        let (crowded, other) = tokio::try_join!(
            zero::put_to_sleep(namespace, &stillwake, &web, &scaling),
            zero::put_to_sleep(&beside, &stillwake, &web, &scaling),
        )?;
        let begun = Instant::now();
        let mut crowd = JoinSet::new();
        for id in 0..CROWD {
            crowd.spawn(async move {
                let answer = client::get_as(crowded, "/bytes?length=100", id).await?;
                ensure!(
                    answer.status == StatusCode::OK && answer.request_id() == Some(id),
                    "request {id}: {} {}",
                    answer.status,
                    answer.text()
                );
                anyhow::Ok(())
            });
        }
        let answer = client::get(other, "/bytes?length=100").await?;
        ensure!(answer.status == StatusCode::OK, "{}", answer.text());
        let beside = begun.elapsed();
        while let Some(answered) = crowd.join_next().await {
            answered?.context("one of the crowd")?;
        }
        eprintln!(
            "a crowd of {CROWD} in {:?}, one beside it in {beside:?}",
            begun.elapsed()
        );
        Ok(())
    })
}
