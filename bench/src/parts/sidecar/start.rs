//! How long a proxy takes from its start until it accepts connections.

use std::time::Duration;

use anyhow::ensure;
use futures_util::FutureExt as _;
use stillwake_e2e::wait::PATIENCE;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

use super::{compared, present};
use crate::{
    backend::Backend,
    context::Context,
    part::Part,
    peers::{Around, Mode, Proxy, Running},
    row::{Row, Unit},
    statistics::Blocks,
};

pub(super) const PART: Part = Part {
    name: "sidecar-start",
    measures: "Time from the start of the process until it accepts a connection.",
    run: |context| run(context).boxed_local(),
};

const CASE: &str = "";

const MEASURE: &str = "start to first connection";

/// How often a connection is tried.
const APART: Duration = Duration::from_micros(100);

async fn run(context: &Context) -> anyhow::Result<Vec<Row>> {
    let backend = Backend::start(&Around::default()).await?;
    let (subjects, left_out) = present(context, Mode::Http1, CASE, MEASURE);
    let blocks = Blocks::measure(&subjects, context.pick(10, 3), async |subject| {
        Ok(vec![(
            MEASURE,
            start(*subject, context, &backend).await?.as_secs_f64(),
        )])
    })
    .await?;
    let mut rows = Vec::new();
    for subject in subjects {
        let name = subject.as_ref();
        let row = Row::new(
            CASE,
            name,
            MEASURE,
            Unit::Seconds,
            blocks.summary(name, MEASURE)?,
        );
        rows.push(compared(row, &blocks, MEASURE)?);
    }
    rows.extend(left_out);
    Ok(rows)
}

async fn start(subject: Proxy, context: &Context, backend: &Backend) -> anyhow::Result<Duration> {
    let proxy = Running::spawn(subject, context, backend, Mode::Http1, &Around::default()).await?;
    while TcpStream::connect(proxy.address).await.is_err() {
        ensure!(
            proxy.spawned.elapsed() < PATIENCE,
            "it does not listen: {}",
            proxy.log()
        );
        sleep(APART).await;
    }
    Ok(Instant::now() - proxy.spawned)
}
