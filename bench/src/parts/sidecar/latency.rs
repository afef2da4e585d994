//! What a proxy adds to the time of a request, where nothing else takes time.

use futures_util::FutureExt as _;

use super::{Started, compared, per, start};
use crate::{
    backend::Backend,
    context::Context,
    load,
    part::Part,
    peers::{Around, Mode, Proxy, Running},
    pin, process,
    row::{Row, Unit},
    statistics::Blocks,
};

pub(super) const PART: Part = Part {
    name: "sidecar-latency",
    measures: "What a proxy adds to a request of 1 KB over one HTTP/1.1 connection that is kept, with client, proxy and backend \
               on one processor, so that no time is that of a processor that wakes.",
    run: |context| run(context).boxed_local(),
};

const CASE: &str = "h1, 1 connection, pinned";

const MEASURES: [&str; 2] = ["p50", "p99"];

const CPU: &str = "CPU per request";

async fn run(context: &Context) -> anyhow::Result<Vec<Row>> {
    let around = Around {
        wrapper: pin::wrapper()?,
        ..Around::default()
    };
    let backend = Backend::start(&around).await?;
    let (mut running, mut rows) = start(context, &backend, Mode::Http1, &around, CASE, "p50").await;
    let direct = Running::start(Proxy::Direct, context, &backend, Mode::Http1, &around).await?;
    running.insert(
        0,
        Started {
            subject: Proxy::Direct,
            proxy: direct,
        },
    );
    let subjects: Vec<Proxy> = running.iter().map(|each| each.subject).collect();
    let time = context.slice();
    let blocks = Blocks::measure(
        &running,
        context.blocks(),
        async |Started { proxy, .. }| {
            let before = proxy.pid().map(process::cpu_time).transpose()?;
            let load = load::http1(proxy.address, "/1024", 1, time, &around).await?;
            let mut numbers = vec![
                ("p50", load.median.as_secs_f64()),
                ("p99", load.high.as_secs_f64()),
            ];
            if let (Some(before), Some(pid)) = (before, proxy.pid()) {
                numbers.push((
                    CPU,
                    per(
                        process::cpu_time(pid)?.saturating_sub(before),
                        load.requests,
                    ),
                ));
            }
            Ok(numbers)
        },
    )
    .await?;
    for measure in MEASURES {
        for subject in &subjects {
            let name = subject.as_ref();
            rows.push(Row::new(
                CASE,
                name,
                measure,
                Unit::Seconds,
                blocks.summary(name, measure)?,
            ));
        }
    }
    for measure in MEASURES {
        for subject in &subjects[1..] {
            let name = subject.as_ref();
            let added = blocks.difference(name, Proxy::Direct.as_ref(), measure)?;
            rows.push(Row::new(
                CASE,
                name,
                &format!("added {measure}"),
                Unit::Seconds,
                added,
            ));
        }
    }
    for subject in &subjects[1..] {
        let name = subject.as_ref();
        let row = Row::new(CASE, name, CPU, Unit::Seconds, blocks.summary(name, CPU)?);
        rows.push(compared(row, &blocks, CPU)?);
    }
    Ok(rows)
}
