//! How many system calls a proxy makes for a request, which is most of what it costs.

use std::process::Stdio;

use anyhow::{Context as _, ensure};
use futures_util::FutureExt as _;
use rustix::process::Signal;
use stillwake_e2e::processes;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::Command,
};

use super::{Started, start};
use crate::{
    backend::Backend,
    context::Context,
    load::{self, Until},
    part::Part,
    peers::{Around, Mode, Running},
    process,
    row::{Row, Unit},
    statistics::Summary,
};

pub(super) const PART: Part = Part {
    name: "sidecar-syscalls",
    measures: "System calls of the proxy for each HTTP/1.1 request of 1 KB over connections that are kept, counted by strace. \
               Being watched makes it slower, so that more connections are ready at once than without.",
    run: |context| run(context).boxed_local(),
};

const MEASURE: &str = "system calls per request";

async fn run(context: &Context) -> anyhow::Result<Vec<Row>> {
    let backend = Backend::start(&Around::default()).await?;
    let mut rows = Vec::new();
    let connections: &[u32] = context.pick(&[1, 32, 1000], &[1, 32]);
    for &connections in connections {
        let case = super::connections(connections);
        let (started, left_out) = start(
            context,
            &backend,
            Mode::Http1,
            &Around::default(),
            &case,
            MEASURE,
        )
        .await;
        for Started { subject, proxy } in started {
            // Many, as connections to the backend are opened when they are needed, not always as many.
            let requests = u64::from(connections).max(200) * 10;
            let row = match count(&proxy, connections, requests).await {
                Ok(calls) => Row::new(
                    &case,
                    subject.as_ref(),
                    MEASURE,
                    Unit::Count,
                    Summary::exact(calls),
                ),
                Err(why) => Row::left_out(&case, subject.as_ref(), MEASURE, why),
            };
            rows.push(row);
        }
        rows.extend(left_out);
    }
    Ok(rows)
}

/// What is once per connection falls out of the difference of two loads, after one that opens what is kept to the backend.
async fn count(proxy: &Running, connections: u32, requests: u64) -> anyhow::Result<f64> {
    let warm_up = Until::Requests(requests);
    load::h2load(proxy.address, "/1024", connections, 0, warm_up).await?;
    let few = trace(proxy, connections, requests).await?;
    let many = trace(proxy, connections, requests * 3).await?;
    ensure!(
        many > few,
        "three times as many requests took fewer calls, {many} instead of {few}: it did something else meanwhile"
    );
    Ok((many - few) / (requests * 2) as f64)
}

async fn trace(proxy: &Running, connections: u32, requests: u64) -> anyhow::Result<f64> {
    let pid = proxy.pid().context("it has ended")?;
    let mut strace = Command::new("strace")
        .args(["-f", "-c", "-U", "calls,name", "-p", &pid.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("strace is missing: bench/setup.sh installs it")?;
    let mut printed = BufReader::new(strace.stderr.take().context("no stderr")?);
    let mut attached = String::new();
    printed.read_line(&mut attached).await?;
    ensure!(attached.contains("attached"), "strace: {attached}");
    load::h2load(
        proxy.address,
        "/1024",
        connections,
        0,
        Until::Requests(requests),
    )
    .await?;
    processes::signal(process::id(&strace)?, Signal::INT);
    let mut table = String::new();
    printed.read_to_string(&mut table).await?;
    strace.wait().await?;
    let total = table
        .lines()
        .find_map(|line| line.trim().strip_suffix(" total"));
    let total = total.with_context(|| format!("strace printed:\n{table}"))?;
    Ok(total.trim().parse()?)
}
