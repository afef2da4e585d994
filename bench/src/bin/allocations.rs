//! Counts what an admission allocates, and prints it as JSON. A program of its own, because counting slows all else down.

use std::{
    alloc::System,
    io::{Write as _, stdout},
};

use anyhow::ensure;
use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use stillwake_bench::{admissions::Admissions, parts::webhook::Allocations};
use stillwake_webhook::server;
use tower::ServiceExt as _;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How often each pod is admitted, after once to begin with.
const ROUNDS: usize = 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let admissions = Admissions::read()?;
    let router = server::router(admissions.admission());
    let round = async || {
        for review in &admissions.reviews {
            let request = Request::post(server::PATH).body(Body::from(review.clone()))?;
            let answer = router.clone().oneshot(request).await?;
            ensure!(answer.status() == StatusCode::OK, "{}", answer.status());
            answer.into_body().collect().await?;
        }
        Ok(())
    };
    round().await?;
    let region = Region::new(ALLOCATOR);
    for _ in 0..ROUNDS {
        round().await?;
    }
    let stats = region.change();
    let count = (ROUNDS * admissions.reviews.len()) as f64;
    let allocations = Allocations {
        pieces: (stats.allocations + stats.reallocations) as f64 / count,
        bytes: stats.bytes_allocated as f64 / count,
    };
    let mut output = stdout().lock();
    serde_json::to_writer(&mut output, &allocations)?;
    Ok(writeln!(output)?)
}
