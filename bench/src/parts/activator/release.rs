//! From the moment an endpoint is ready until the last of those that were held has the first byte of its answer; and the
//! memory that each takes while it is held.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::ensure;
use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep};

use super::{ACTIVATOR, clients::Crowd};
use crate::{
    backend::Backend,
    certificates::Certificate,
    context::Context,
    part::Part,
    peers::Around,
    process,
    roles::{
        Role,
        activator::{self, Held, Question},
        child::Playing,
    },
    row::{Row, Unit},
    statistics::Summary,
};

/// Longest that so many may take to be held.
const PATIENCE: Duration = Duration::from_mins(1);

/// What it is compared with: as many that ask the backend at one moment.
const DIRECT: &str = "direct crowd";

const RELEASE: &str = "ready to the last first byte";

pub(super) const PART: Part = Part {
    name: "activator-release",
    measures: "From an endpoint's being ready to the last first byte of all that were held, and the memory of each that is \
               held; clients and backend share the machine.",
    run: |context| run(context).boxed_local(),
};

async fn run(context: &Context) -> anyhow::Result<Vec<Row>> {
    let cases = context.pick(
        &[(1, 50), (1_000, 7), (10_000, 5)],
        &[(1, 20), (1_000, 3), (10_000, 1)],
    );
    let backend = Backend::start(&Around::default()).await?;
    let mut rows = Vec::new();
    for &(count, times) in cases {
        rows.extend(crowd(&backend, count, times).await?);
    }
    Ok(rows)
}

async fn crowd(backend: &Backend, count: usize, times: usize) -> anyhow::Result<Vec<Row>> {
    let (_folder, certificate) = Certificate::make()?;
    let settings = activator::Settings {
        workloads: 1,
        aggregator: None,
        certificate,
        max_held: count.max(1_000),
    };
    let (mut activator, ports) = Playing::start::<Vec<u16>>(Role::Activator, &settings).await?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports[0]));
    let before = process::memory(activator.pid()?)?.resident;
    let (mut releases, mut directs, mut each) = (Vec::new(), Vec::new(), None);
    for _ in 0..times {
        let held = Crowd::asking(address, count).await?;
        until_held(&mut activator, count).await?;
        if each.is_none() {
            let taken = process::memory(activator.pid()?)?
                .resident
                .saturating_sub(before);
            each = Some(taken as f64 / count as f64);
        }
        let begun = Instant::now();
        activator
            .ask::<Held>(&Question::Ready(backend.http))
            .await?;
        releases.push((held.answered().await? - begun).as_secs_f64());
        activator.ask::<Held>(&Question::Gone).await?;

        let (crowd, go) = Crowd::ready(backend.http, count).await?;
        let begun = Instant::now();
        go.send_replace(true);
        directs.push((crowd.answered().await? - begun).as_secs_f64());
    }
    let case = format!("{count} held");
    let ratios: Vec<f64> = releases
        .iter()
        .zip(&directs)
        .map(|(release, direct)| release / direct)
        .collect();
    let released = Row::new(
        &case,
        ACTIVATOR,
        RELEASE,
        Unit::Seconds,
        Summary::of(&releases)?,
    )
    .over(DIRECT, Summary::of(&ratios)?);
    let direct = Row::new(
        &case,
        DIRECT,
        RELEASE,
        Unit::Seconds,
        Summary::of(&directs)?,
    )
    .noting("as many requests at one moment on connections that stand, to the same backend");
    let mut rows = vec![released, direct];
    if let Some(each) = each.filter(|_| count > 1) {
        let value = Summary::exact(each);
        let row = Row::new(&case, ACTIVATOR, "memory of each held", Unit::Bytes, value);
        rows.push(row.noting(
            "growth of its resident memory over the number held, without the kernel's sockets",
        ));
    }
    Ok(rows)
}

async fn until_held(activator: &mut Playing, count: usize) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let Held(held) = activator.ask(&Question::Held).await?;
        if held == count as u64 {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "{held} of {count} are held");
        sleep(Duration::from_millis(10)).await;
    }
}
