//! What a proxy takes of memory, and how often it wakes when nothing happens.

use std::time::Duration;

use futures_util::FutureExt as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::sleep;

use super::{Started, start};
use crate::{
    backend::Backend,
    context::Context,
    load::{self, Idle},
    part::Part,
    peers::{Around, CONTROL, Mode, Proxy, Running},
    process::{self, Memory},
    row::{Row, Unit},
    statistics::Summary,
};

pub(super) const PART: Part = Part {
    name: "sidecar-memory",
    measures: "Memory of the proxy (RSS; PSS, in which what others share is divided among them): idle, with connections that \
               have had one answer and are kept, after a load over 32 connections of 1 KB, and later. And how often it wakes \
               in a second without traffic; the sidecar is connected to two aggregators over TLS all along.",
    run: |context| run(context).boxed_local(),
};

const RSS: &str = "RSS";

/// What the sidecar may take.
const IDLE_BUDGET: f64 = 3.0 * 1024.0 * 1024.0;
const LOADED_BUDGET: f64 = 5.0 * 1024.0 * 1024.0;
const CONNECTION_BUDGET: f64 = 4.0 * 1024.0;

const FEW: usize = 1_000;
const MANY: usize = 10_000;

/// Files that are open besides two for each connection.
const OTHER_FILES: usize = 400;

async fn run(context: &Context) -> anyhow::Result<Vec<Row>> {
    let many = raise_limit().min(MANY);
    let backend = Backend::start(&Around::default()).await?;
    let around = Around::default();
    let (running, mut rows) = start(context, &backend, Mode::Http1, &around, "idle", RSS).await;
    sleep(context.pick(Duration::from_secs(5), Duration::from_secs(2))).await;
    idle(context, &running, &mut rows).await?;
    let time = context.pick(Duration::from_secs(20), Duration::from_secs(2));
    for Started { subject, proxy } in &running {
        load::http1(proxy.address, "/1024", 32, time, &around).await?;
        let budget = (*subject == Proxy::Sidecar).then_some(LOADED_BUDGET);
        rows.extend(told("after load", *subject, memory(proxy)?, budget));
    }
    let later = context.pick(Duration::from_mins(1), Duration::from_secs(3));
    sleep(later).await;
    for Started { subject, proxy } in &running {
        let case = format!("{} s later", later.as_secs());
        rows.extend(told(&case, *subject, memory(proxy)?, None));
    }
    drop(running);
    let around = Around {
        connections: many,
        ..around
    };
    let (running, _) = start(context, &backend, Mode::Http1, &around, "idle", RSS).await;
    for Started { subject, proxy } in &running {
        connections(*subject, proxy, [FEW.min(many), many], &mut rows).await?;
    }
    compare(&mut rows);
    Ok(rows)
}

async fn idle(context: &Context, running: &[Started], rows: &mut Vec<Row>) -> anyhow::Result<()> {
    for Started { subject, proxy } in running {
        let budget = (*subject == Proxy::Sidecar).then_some(IDLE_BUDGET);
        rows.extend(told("idle", *subject, memory(proxy)?, budget));
    }
    let time = context.pick(Duration::from_secs(30), Duration::from_secs(5));
    let mut before = Vec::new();
    for Started { proxy, .. } in running {
        before.push(process::wake_ups(pid(proxy)?)?);
    }
    sleep(time).await;
    for (Started { subject, proxy }, before) in running.iter().zip(before) {
        let woken = (process::wake_ups(pid(proxy)?)? - before) as f64 / time.as_secs_f64();
        rows.push(Row::new(
            "idle",
            subject.as_ref(),
            "wake-ups",
            Unit::PerSecond,
            Summary::exact(woken),
        ));
    }
    Ok(())
}

async fn connections(
    subject: Proxy,
    proxy: &Running,
    counts: [usize; 2],
    rows: &mut Vec<Row>,
) -> anyhow::Result<()> {
    let before = memory(proxy)?;
    let mut idle = Idle::default();
    for count in counts {
        if let Err(why) = idle.open(proxy.address, count).await {
            rows.push(Row::left_out(&kept(count), subject.as_ref(), RSS, why));
            return Ok(());
        }
        let now = memory(proxy)?;
        rows.extend(told(&kept(count), subject, now, None));
        let each = now.resident.saturating_sub(before.resident) as f64 / count as f64;
        let mut row = Row::new(
            &kept(count),
            subject.as_ref(),
            "RSS per connection",
            Unit::Bytes,
            Summary::exact(each),
        );
        if subject == Proxy::Sidecar && count == counts[1] {
            row = row.at_most(CONNECTION_BUDGET);
            if count < MANY {
                row = row.noting(format!(
                    "instead of {}: a process may have no more open files on this machine, and a proxy has two for each connection",
                    kept(MANY)
                ));
            }
        }
        rows.push(row);
    }
    Ok(())
}

/// Returns the rows of one reading.
fn told(case: &str, subject: Proxy, memory: Memory, budget: Option<f64>) -> [Row; 2] {
    let row = |measure, bytes: u64| {
        Row::new(
            case,
            subject.as_ref(),
            measure,
            Unit::Bytes,
            Summary::exact(bytes as f64),
        )
    };
    let resident = row(RSS, memory.resident);
    let resident = match budget {
        Some(budget) => resident.at_most(budget),
        None => resident,
    };
    [resident, row("PSS", memory.proportional)]
}

/// Adds the ratios to the control, which are those of one reading each.
fn compare(rows: &mut [Row]) {
    let controls: Vec<Row> = rows
        .iter()
        .filter(|row| row.subject == CONTROL)
        .cloned()
        .collect();
    for row in rows
        .iter_mut()
        .filter(|row| row.subject != CONTROL && row.measure != "wake-ups")
    {
        let control = controls
            .iter()
            .find(|control| control.case == row.case && control.measure == row.measure);
        let Some(Ok(control)) = control.map(|control| control.figure.as_ref()) else {
            continue;
        };
        if let Ok(figure) = &row.figure {
            let ratio = Summary::exact(figure.value.median / control.value.median);
            *row = row.clone().over(CONTROL, ratio);
        }
    }
}

/// Lets this process and those it starts open as many files as it may, and returns how many connections that is enough for.
fn raise_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = (2 * MANY + OTHER_FILES) as u64;
    let raised = |maximum: u64| Rlimit {
        current: Some(wanted.min(maximum)),
        maximum: Some(maximum),
    };
    let maximum = limit.maximum.unwrap_or(u64::MAX);
    // More than the maximum takes a right that not even every root has.
    let tries = [maximum.max(wanted), maximum];
    let given = tries
        .into_iter()
        .find(|maximum| setrlimit(Resource::Nofile, raised(*maximum)).is_ok());
    let files = given.or(limit.current).unwrap_or(maximum).min(wanted);
    usize::try_from(files).map_or(MANY, |files| files.saturating_sub(OTHER_FILES) / 2)
}

fn kept(count: usize) -> String {
    format!("{} connections", Unit::Count.show(count as f64))
}

fn pid(proxy: &Running) -> anyhow::Result<i32> {
    proxy
        .pid()
        .ok_or_else(|| anyhow::anyhow!("it has ended: {}", proxy.log()))
}

fn memory(proxy: &Running) -> anyhow::Result<Memory> {
    process::memory(pid(proxy)?)
}
