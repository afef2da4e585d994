//! From a request's arrival at an activator until the wake-up stands in KEDA's stream: activator and aggregator are
//! processes of their own, with TLS between them as in a cluster.

use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use futures_util::FutureExt as _;
use rand::RngExt as _;
use stillwake_proto::scaler::IsActiveResponse;
use tokio::time::{Instant, sleep, timeout};
use tonic::Streaming;

use super::{ACTIVATOR, clients};
use crate::{
    backend::Backend,
    certificates::Certificate,
    context::Context,
    fleet::Fleet,
    keda::Keda,
    part::Part,
    peers::Around,
    roles::{Role, activator, aggregator, child::Playing},
    row::{Row, Unit},
    statistics::{Summary, percentile},
};

/// So many that each has been forgotten as active when its turn comes again.
const FLEET: Fleet = Fleet {
    workloads: 200,
    pods_each: 0,
    polling_interval: Duration::from_millis(50),
};

/// Longest that a wake-up may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A way for requests to follow each other.
struct Pace {
    name: &'static str,
    /// Between two; each pause is one of these, so that requests meet every moment of the reports' gaps alike.
    pauses: Range<Duration>,
    /// Whether the design's budget is meant for it.
    is_budgeted: bool,
}

/// The one before has left and was reported as gone, as it is where wakes are rare.
const ALONE: Pace = Pace {
    name: "each alone",
    pauses: Duration::from_millis(120)..Duration::from_millis(140),
    is_budgeted: true,
};

/// An activator reports 200 times a second at most, and here something happens about as often: most have to wait for the
/// gap after another's report.
const CROWDED: Pace = Pace {
    name: "about 100 a second",
    pauses: Duration::ZERO..Duration::from_millis(12),
    is_budgeted: false,
};

/// What the wake-up is compared with.
const DIRECT: &str = "direct request";

pub(super) const PART: Part = Part {
    name: "activator-push",
    measures: "From a request's arrival at the activator, where nothing is ready, to the frame that wakes the workload on \
               KEDA's stream.",
    run: |context| run(context).boxed_local(),
};

async fn run(context: &Context) -> anyhow::Result<Vec<Row>> {
    let (_folder, certificate) = Certificate::make()?;
    let settings = aggregator::Settings {
        fleet: FLEET,
        ingest: 0,
        scaler: 0,
        certificate: certificate.clone(),
    };
    let (_aggregator, ports) =
        Playing::start::<aggregator::Ports>(Role::Aggregator, &settings).await?;
    let settings = activator::Settings {
        workloads: FLEET.workloads,
        aggregator: Some(ports.ingest),
        certificate,
        max_held: 1_000,
    };
    let (_activator, listening) = Playing::start::<Vec<u16>>(Role::Activator, &settings).await?;
    let backend = Backend::start(&Around::default()).await?;
    let keda = Keda::connect(ports.scaler).await?;
    keda.all_known(FLEET).await?;
    let mut wakes = Vec::new();
    for index in 0..FLEET.workloads {
        wakes.push(keda.wakes(index).await?);
    }
    let mut rows = Vec::new();
    for (pace, samples) in [
        (ALONE, context.pick(400, 80)),
        (CROWDED, context.pick(1_000, 200)),
    ] {
        let (mut pushes, mut directs) = (Vec::new(), Vec::new());
        for sample in 0..samples {
            let index = sample % FLEET.workloads;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, listening[index]));
            let pushed = push(&mut wakes[index], address).await;
            pushes.push(pushed.with_context(|| format!("workload {index}"))?);
            let begun = Instant::now();
            let direct = clients::Crowd::asking(backend.http, 1).await?;
            directs.push((direct.answered().await? - begun).as_secs_f64());
            sleep(rand::rng().random_range(pace.pauses.clone())).await;
        }
        rows.extend(compared(&pace, &pushes, &directs)?);
    }
    Ok(rows)
}

/// Returns how long it takes from a request to the wake-up, in seconds. The request is given up then.
async fn push(wake: &mut Streaming<IsActiveResponse>, address: SocketAddr) -> anyhow::Result<f64> {
    // A repetition for the one before.
    while let Some(late) = wake.message().now_or_never() {
        ensure!(late?.is_some(), "the stream ended");
    }
    let begun = Instant::now();
    let _held = clients::request(address).await?;
    let pushed = timeout(PATIENCE, wake.message()).await;
    let took = begun.elapsed().as_secs_f64();
    let pushed = pushed.context("no wake-up came")??;
    ensure!(pushed.is_some_and(|active| active.result), "no wake-up");
    Ok(took)
}

fn compared(pace: &Pace, pushes: &[f64], directs: &[f64]) -> anyhow::Result<Vec<Row>> {
    let case = format!("{} requests, {}", pushes.len(), pace.name);
    let mut rows = Vec::new();
    for (measure, share) in [
        ("arrival to push, p50", 0.5),
        ("arrival to push, p99", 0.99),
    ] {
        let (push, direct) = (percentile(pushes, share)?, percentile(directs, share)?);
        let mut row = Row::new(
            &case,
            ACTIVATOR,
            measure,
            Unit::Seconds,
            Summary::exact(push),
        )
        .over(DIRECT, Summary::exact(push / direct));
        if pace.is_budgeted && share > 0.9 {
            row = row.at_most(0.005);
        }
        rows.push(row);
        let direct = Row::new(
            &case,
            DIRECT,
            measure,
            Unit::Seconds,
            Summary::exact(direct),
        );
        rows.push(direct.noting(
            "to the answer of a ready backend, without activator and aggregator: what the machine alone makes of a request",
        ));
    }
    Ok(rows)
}
