//! All that is measured with one number of reporters, in one go.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::{
    AGGREGATOR, READER,
    rig::{self, Reporters, cpu_share},
};
use crate::{
    certificates::Certificate,
    context::Context,
    fleet::Fleet,
    keda::{CONCURRENCY, Keda, REQUEST_RATE},
    process,
    roles::{Role, child::Playing, reader},
    row::{Row, Unit},
    statistics::{Summary, percentile},
};

/// How many of a thousand pods are busy.
const BUSY: u32 = 300;

/// Questions of KEDA in a second.
const RATE: u32 = 2_000;

/// What the exact answers are taken over: `IDLE`, `PLAY` and `SETTLE` together, and what starting takes at most.
const WINDOW: Duration = Duration::from_secs(30);

/// Longer than the interval at which idle sidecars report, so that each has reported nothing at the window's beginning.
const IDLE: Duration = Duration::from_secs(15);

/// How long the pods are busy that are counted exactly.
const PLAY: Duration = Duration::from_secs(10);

/// How long they are idle before KEDA asks: more than the short window of a burst, which is a tenth.
const SETTLE: Duration = Duration::from_secs(4);

/// How far floating point may be from a sum in microseconds, and the integral at a window's edge from an idle report.
const ROUNDING: f64 = 1e-4;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// How many reporters.
    pub(super) pods: usize,
    /// Whether the bare reader is measured too.
    pub(super) is_compared: bool,
    /// Whether answers are compared with the reporters' own ledger.
    pub(super) is_exact: bool,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Measured {
    /// Rows of the report.
    pub(super) rows: Vec<Row>,
    /// CPU while 30 % are busy.
    pub(super) cpu: Vec<f64>,
}

pub(super) async fn measure(
    context: &Context,
    scale: Scale,
    case: &str,
) -> anyhow::Result<Measured> {
    let fleet = Fleet::of_pods(scale.pods);
    let (_folder, certificate) = Certificate::make()?;
    let (slices, slice) = context.pick((5, Duration::from_secs(3)), (3, Duration::from_secs(1)));
    let mut rows = Vec::new();
    let mut say = |measure: &str, unit, value| {
        rows.push(Row::new(case, AGGREGATOR, measure, unit, value));
    };

    let (aggregator, ports) = rig::aggregator(fleet, &certificate, None).await?;
    let pid = aggregator.pid()?;
    let empty = process::memory(pid)?.resident;
    let mut reporters = Reporters::start(fleet, ports.ingest, &certificate).await?;
    let keda = Keda::connect(ports.scaler).await?;
    keda.all_known(fleet).await?;
    let mut wakes = Vec::new();
    for index in 0..fleet.workloads {
        wakes.push(keda.wakes(index).await?);
    }

    let connected = Instant::now();
    let idle = cpu_share(pid, slices, slice).await?;
    say("CPU, nothing busy", Unit::Fraction, Summary::of(&idle)?);
    let mut exact = Vec::new();
    if scale.is_exact {
        sleep_until(connected + IDLE).await;
        exact = exactness(&keda, &mut reporters, fleet, case).await?;
    }

    let before = reporters.active(BUSY).await?;
    let begun = Instant::now();
    sleep(Duration::from_secs(2)).await;
    let cpu = cpu_share(pid, slices, slice).await?;
    let reports = reporters.going().await?.reports - before.reports;
    let reports = reports as f64 / begun.elapsed().as_secs_f64();
    say(
        "reports taken, 30 % busy",
        Unit::PerSecond,
        Summary::exact(reports),
    );
    let busy = Summary::of(&cpu)?;
    let memory = process::memory(pid)?.resident;
    say("memory", Unit::Bytes, Summary::exact(memory as f64));
    let each = memory.saturating_sub(empty) as f64 / scale.pods as f64;
    say("memory for each pod", Unit::Bytes, Summary::exact(each));

    let asking = slice * u32::try_from(slices)?;
    let (answers, asked) =
        tokio::join!(keda.ask(fleet, RATE, asking), cpu_share(pid, slices, slice));
    let answers = answers?;
    say(
        "CPU, 30 % busy and 2,000 GetMetrics/s",
        Unit::Fraction,
        Summary::of(&asked?)?,
    );
    let time = |share| anyhow::Ok(Summary::exact(percentile(&answers.times, share)?));
    say("GetMetrics at 2,000/s, p50", Unit::Seconds, time(0.5)?);
    say("GetMetrics at 2,000/s, p99", Unit::Seconds, time(0.99)?);
    say(
        "GetMetrics without an answer",
        Unit::Count,
        Summary::exact(answers.failed as f64),
    );
    drop((wakes, keda));

    aggregator.kill().await?;
    let (aggregator, ports) = rig::aggregator(fleet, &certificate, Some(ports)).await?;
    let begun = Instant::now();
    reporters.connected().await?;
    say(
        "after a kill: all connected",
        Unit::Seconds,
        Summary::exact(begun.elapsed().as_secs_f64()),
    );
    Keda::connect(ports.scaler).await?.all_known(fleet).await?;
    say(
        "after a kill: all known",
        Unit::Seconds,
        Summary::exact(begun.elapsed().as_secs_f64()),
    );
    let pid = aggregator.pid()?;
    let used = process::cpu_time(pid)?.as_secs_f64();
    say(
        "after a kill: CPU time until then",
        Unit::Seconds,
        Summary::exact(used),
    );
    let most = process::peak_memory(pid)?;
    say(
        "after a kill: most memory",
        Unit::Bytes,
        Summary::exact(most as f64),
    );
    drop((aggregator, reporters));

    let mut row = Row::new(case, AGGREGATOR, "CPU, 30 % busy", Unit::Fraction, busy);
    if scale.is_compared {
        let read = reader_cpu(fleet, &certificate, slices, slice).await?;
        let summary = Summary::of(&read)?;
        let ratio = Summary {
            median: busy.median / summary.median,
            low: busy.low / summary.high,
            high: busy.high / summary.low,
        };
        row = row.over(READER, ratio);
        rows.push(Row::new(
            case,
            READER,
            "CPU, 30 % busy",
            Unit::Fraction,
            summary,
        ));
    }
    if scale.pods == 10_000 {
        row = row.at_most(0.15);
    }
    rows.push(row);
    rows.extend(exact);
    Ok(Measured { rows, cpu })
}

/// Has the pods play once, and compares what KEDA is told with their ledger.
async fn exactness(
    keda: &Keda,
    reporters: &mut Reporters,
    fleet: Fleet,
    case: &str,
) -> anyhow::Result<Vec<Row>> {
    reporters.active(BUSY).await?;
    sleep(PLAY).await;
    reporters.active(0).await?;
    sleep(SETTLE).await;
    let ledger = reporters.ledger(fleet).await?;
    let (mut differing, mut farthest) = (0, 0.0_f64);
    let mut sums = [0.0; 4];
    for total in &ledger {
        let ask = async |metric| {
            keda.metric(Fleet::request(total.workload, WINDOW, metric))
                .await
        };
        let told = [
            ask(CONCURRENCY).await? * WINDOW.as_secs_f64(),
            ask(REQUEST_RATE).await? * WINDOW.as_secs_f64(),
        ];
        let counted = [total.in_flight_time as f64 / 1e6, total.requests as f64];
        let distance = |told: f64, counted: f64| (told - counted).abs() / counted.max(1.0);
        let far = distance(told[0], counted[0]).max(distance(told[1], counted[1]));
        farthest = farthest.max(far);
        differing += usize::from(far > ROUNDING);
        for (sum, number) in sums.iter_mut().zip(told.into_iter().chain(counted)) {
            *sum += number;
        }
    }
    let row = |subject, measure, unit, value| {
        Row::new(case, subject, measure, unit, Summary::exact(value))
    };
    let (integral, requests) = ("integral of the requests in flight", "requests begun");
    Ok(vec![
        row(AGGREGATOR, integral, Unit::Seconds, sums[0])
            .over("ledger", Summary::exact(sums[0] / sums[2])),
        row("ledger", integral, Unit::Seconds, sums[2]),
        row(AGGREGATOR, requests, Unit::Count, sums[1])
            .over("ledger", Summary::exact(sums[1] / sums[3])),
        row("ledger", requests, Unit::Count, sums[3]),
        row(
            AGGREGATOR,
            "workloads whose answer differs from the ledger",
            Unit::Count,
            differing as f64,
        )
        .at_most(0.0)
        .noting(format!("the farthest by {farthest:.1e}")),
    ])
}

/// What it takes to read the same and do nothing.
async fn reader_cpu(
    fleet: Fleet,
    certificate: &Certificate,
    slices: usize,
    slice: Duration,
) -> anyhow::Result<Vec<f64>> {
    let settings = reader::Settings {
        certificate: certificate.clone(),
    };
    let (reader, port) = Playing::start::<u16>(Role::Reader, &settings).await?;
    let mut reporters = Reporters::start(fleet, port, certificate).await?;
    reporters.active(BUSY).await?;
    sleep(Duration::from_secs(2)).await;
    cpu_share(reader.pid()?, slices, slice).await
}
