//! The processor time that a proxy takes for a request, by what goes through it.

use std::time::Duration;

use futures_util::FutureExt as _;

use super::{Started, compared, per, start};
use crate::{
    backend::Backend,
    context::Context,
    load::{self, Until},
    part::Part,
    peers::{Around, Mode, Proxy},
    process,
    row::{Row, Unit},
    statistics::Blocks,
};

pub(super) const PART: Part = Part {
    name: "sidecar-cpu",
    measures: "Processor time of the proxy for each request, in user mode and in the kernel, over connections that are kept.",
    run: |context| run(context).boxed_local(),
};

const CPU: &str = "CPU per request";

/// The most that the sidecar may take of what nginx takes.
const BUDGET: f64 = 0.9;

/// What goes through.
struct Case {
    name: &'static str,
    mode: Mode,
    path: &'static str,
    connections: u32,
    /// At once on each connection of HTTP/2.
    streams: u32,
    /// Whether a quick run has it as well.
    is_quick: bool,
}

const H1: Case = Case {
    name: "",
    mode: Mode::Http1,
    path: "/1024",
    connections: 32,
    streams: 0,
    is_quick: false,
};

const BUDGETED: &str = "h1, 32 connections, 1 KB";

const CASES: [Case; 8] = [
    Case {
        name: "h1, 1 connection, 1 KB",
        connections: 1,
        ..H1
    },
    Case {
        name: BUDGETED,
        is_quick: true,
        ..H1
    },
    Case {
        name: "h1, 1,000 connections, 1 KB",
        connections: 1000,
        ..H1
    },
    Case {
        name: "h1, 32 connections, 64 KB",
        path: "/65536",
        ..H1
    },
    Case {
        name: "h1, 32 connections, 1 MB",
        path: "/1048576",
        ..H1
    },
    Case {
        name: "h1, 32 connections, 64 chunks of 1 KB",
        path: "/stream",
        ..H1
    },
    Case {
        name: "h2, 4 connections of 8 streams, 1 KB",
        mode: Mode::Http2,
        connections: 4,
        streams: 8,
        is_quick: true,
        ..H1
    },
    Case {
        name: "opaque, 32 connections, 1 KB each way",
        mode: Mode::Opaque,
        is_quick: true,
        ..H1
    },
];

async fn run(context: &Context) -> anyhow::Result<Vec<Row>> {
    let backend = Backend::start(&Around::default()).await?;
    let mut rows = Vec::new();
    for case in CASES.iter().filter(|case| case.is_quick || !context.quick) {
        eprintln!("      {}", case.name);
        let (all, mut left_out) = start(
            context,
            &backend,
            case.mode,
            &Around::default(),
            case.name,
            CPU,
        )
        .await;
        let time = context.slice();
        // The first load warms up, and shows who cannot do it.
        let mut running = Vec::new();
        for each in all {
            match cost(&each, case, time).await {
                Ok(_) => running.push(each),
                Err(why) => left_out.push(Row::left_out(case.name, each.as_ref(), CPU, why)),
            }
        }
        let blocks = Blocks::measure(&running, context.blocks(), async |each| {
            Ok(vec![(CPU, cost(each, case, time).await?)])
        })
        .await?;
        for Started { subject, .. } in &running {
            let row = Row::new(
                case.name,
                subject.as_ref(),
                CPU,
                Unit::Seconds,
                blocks.summary(subject.as_ref(), CPU)?,
            );
            let row = compared(row, &blocks, CPU)?;
            let is_budgeted = *subject == Proxy::Sidecar && case.name == BUDGETED;
            rows.push(if is_budgeted {
                row.at_most_times(BUDGET)
            } else {
                row
            });
        }
        rows.extend(left_out);
    }
    Ok(rows)
}

/// Loads a proxy and returns what one request took, in seconds.
async fn cost(started: &Started, case: &Case, time: Duration) -> anyhow::Result<f64> {
    let pid = started.pid()?;
    let before = process::cpu_time(pid)?;
    let address = started.proxy.address;
    let requests = match case.mode {
        Mode::Http1 => {
            load::http1(
                address,
                case.path,
                case.connections,
                time,
                &Around::default(),
            )
            .await?
            .requests
        }
        Mode::Http2 => {
            load::h2load(
                address,
                case.path,
                case.connections,
                case.streams,
                Until::Time(time),
            )
            .await?
        }
        Mode::Opaque => load::round_trips(address, case.connections, time).await?,
    };
    Ok(per(
        process::cpu_time(pid)?.saturating_sub(before),
        requests,
    ))
}
