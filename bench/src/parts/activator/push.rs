//! From a request's arrival at an activator until the wake-up stands in KEDA's stream: activator and aggregator are
//! processes of their own, with TLS between them as in a cluster.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use futures_util::FutureExt as _;
use rand::RngExt as _;
use tokio::time::{Instant, sleep, timeout};

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

/// Longest pause between two, so that they meet every moment of the reports' gaps alike.
const PAUSE: Duration = Duration::from_millis(12);

/// What the wake-up is compared with.
const DIRECT: &str = "direct request";

pub(super) const PART: Part = Part {
    name: "activator-push",
    measures: "From a request's arrival at the activator, where nothing is ready, to the frame that wakes the workload on \
               KEDA's stream.",
    run: |context| run(context).boxed_local(),
};

async fn run(context: &Context) -> anyhow::Result<Vec<Row>> {
    let samples = context.pick(2_000, 300);
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
    let (mut pushes, mut directs) = (Vec::new(), Vec::new());
    for sample in 0..samples {
        let index = sample % FLEET.workloads;
        let wake = &mut wakes[index];
        // A repetition for the one before.
        while let Some(late) = wake.message().now_or_never() {
            ensure!(late?.is_some(), "the stream ended");
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, listening[index]));
        let begun = Instant::now();
        let held = clients::request(address).await?;
        let pushed = timeout(PATIENCE, wake.message()).await;
        pushes.push(begun.elapsed().as_secs_f64());
        let pushed = pushed.with_context(|| format!("no wake-up of workload {index}"))?;
        ensure!(pushed?.is_some_and(|active| active.result), "no wake-up");
        drop(held);

        let begun = Instant::now();
        clients::Crowd::asking(backend.http, 1)
            .await?
            .answered()
            .await?;
        directs.push(begun.elapsed().as_secs_f64());
        let pause = rand::rng().random_range(Duration::ZERO..PAUSE);
        sleep(pause).await;
    }
    let case = format!("{samples} requests, {} workloads", FLEET.workloads);
    let mut rows = Vec::new();
    for (measure, share) in [
        ("arrival to push, p50", 0.5),
        ("arrival to push, p99", 0.99),
    ] {
        let (push, direct) = (percentile(&pushes, share)?, percentile(&directs, share)?);
        let row = Row::new(
            &case,
            ACTIVATOR,
            measure,
            Unit::Seconds,
            Summary::exact(push),
        )
        .over(DIRECT, Summary::exact(push / direct));
        rows.push(if share > 0.9 { row.at_most(0.005) } else { row });
        rows.push(
            Row::new(
                &case,
                DIRECT,
                measure,
                Unit::Seconds,
                Summary::exact(direct),
            )
            .noting("to the answer of a ready backend, without activator and aggregator"),
        );
    }
    Ok(rows)
}
