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
    roles::{Role, aggregator::Ports, child::Playing, reader},
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

/// How long pods are busy before it is looked at what that takes.
const STEADY: Duration = Duration::from_secs(2);

/// So many pods may take 15 % of a core, in the design.
const BUDGETED: usize = 10_000;

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
    let (slices, slice) = context.pick((5, Duration::from_secs(3)), (3, Duration::from_secs(1)));
    let (_folder, certificate) = Certificate::make()?;
    let rig = Rig {
        case,
        fleet: Fleet::of_pods(scale.pods),
        certificate,
        slices,
        slice,
    };
    let fleet = rig.fleet;
    let (aggregator, ports) = rig::aggregator(fleet, &rig.certificate, None).await?;
    let pid = aggregator.pid()?;
    let empty = process::memory(pid)?.resident;
    let mut reporters = Reporters::start(fleet, ports.ingest, &rig.certificate).await?;
    let keda = Keda::connect(ports.scaler).await?;
    keda.all_known(fleet).await?;
    let mut wakes = Vec::new();
    for index in 0..fleet.workloads {
        wakes.push(keda.wakes(index).await?);
    }

    let connected = Instant::now();
    let idle = rig.cpu_share(pid).await?;
    let mut rows = vec![rig.row("CPU, nothing busy", Unit::Fraction, Summary::of(&idle)?)];
    if scale.is_exact {
        sleep_until(connected + IDLE).await;
        rows.extend(exactness(&keda, &mut reporters, fleet, case).await?);
    }

    let before = reporters.active(BUSY).await?;
    let begun = Instant::now();
    sleep(STEADY).await;
    let cpu = rig.cpu_share(pid).await?;
    let reports = (reporters.going().await?.reports - before.reports) as f64;
    let rate = reports / begun.elapsed().as_secs_f64();
    let memory = process::memory(pid)?.resident;
    let each = memory.saturating_sub(empty) as f64 / scale.pods as f64;
    rows.extend([
        rig.exactly("reports taken, 30 % busy", Unit::PerSecond, rate),
        rig.exactly("memory", Unit::Bytes, memory as f64),
        rig.exactly("memory for each pod", Unit::Bytes, each),
    ]);
    rows.extend(rig.asked(&keda, pid).await?);
    drop((wakes, keda));

    aggregator.kill().await?;
    rows.extend(rig.returned(ports, &mut reporters).await?);
    drop(reporters);
    let read = if scale.is_compared {
        Some(rig.reader_cpu().await?)
    } else {
        None
    };
    rows.extend(rig.compared(&cpu, read.as_deref())?);
    Ok(Measured { rows, cpu })
}

/// One number of reporters, and how long things are looked at.
struct Rig<'a> {
    case: &'a str,
    fleet: Fleet,
    certificate: Certificate,
    slices: usize,
    slice: Duration,
}

impl Rig<'_> {
    fn row(&self, measure: &str, unit: Unit, value: Summary) -> Row {
        Row::new(self.case, AGGREGATOR, measure, unit, value)
    }

    fn exactly(&self, measure: &str, unit: Unit, value: f64) -> Row {
        self.row(measure, unit, Summary::exact(value))
    }

    async fn cpu_share(&self, pid: i32) -> anyhow::Result<Vec<f64>> {
        cpu_share(pid, self.slices, self.slice).await
    }

    /// Asks as KEDA does while pods report.
    async fn asked(&self, keda: &Keda, pid: i32) -> anyhow::Result<Vec<Row>> {
        let time = self.slice * u32::try_from(self.slices)?;
        let (answers, cpu) = tokio::join!(keda.ask(self.fleet, RATE, time), self.cpu_share(pid));
        let answers = answers?;
        let cpu = Summary::of(&cpu?)?;
        let (middle, high) = (
            percentile(&answers.times, 0.5)?,
            percentile(&answers.times, 0.99)?,
        );
        let failed = answers.failed as f64;
        Ok(vec![
            self.row("CPU, 30 % busy and 2,000 GetMetrics/s", Unit::Fraction, cpu),
            self.exactly("GetMetrics at 2,000/s, p50", Unit::Seconds, middle),
            self.exactly("GetMetrics at 2,000/s, p99", Unit::Seconds, high),
            self.exactly("GetMetrics without an answer", Unit::Count, failed),
        ])
    }

    /// Starts an aggregator where one was killed, and waits for all reporters.
    async fn returned(&self, ports: Ports, reporters: &mut Reporters) -> anyhow::Result<Vec<Row>> {
        let begun = Instant::now();
        let (aggregator, ports) =
            rig::aggregator(self.fleet, &self.certificate, Some(ports)).await?;
        reporters.connected().await?;
        let connected = begun.elapsed().as_secs_f64();
        Keda::connect(ports.scaler)
            .await?
            .all_known(self.fleet)
            .await?;
        let known = begun.elapsed().as_secs_f64();
        let pid = aggregator.pid()?;
        let used = process::cpu_time(pid)?.as_secs_f64();
        let most = process::peak_memory(pid)? as f64;
        Ok(vec![
            self.exactly("after a kill: all connected", Unit::Seconds, connected),
            self.exactly("after a kill: all known", Unit::Seconds, known),
            self.exactly("after a kill: CPU time until then", Unit::Seconds, used),
            self.exactly("after a kill: most memory", Unit::Bytes, most),
        ])
    }

    /// What it takes to read the same and do nothing.
    async fn reader_cpu(&self) -> anyhow::Result<Vec<f64>> {
        let settings = reader::Settings {
            certificate: self.certificate.clone(),
        };
        let (reader, port) = Playing::start::<u16>(Role::Reader, &settings).await?;
        let mut reporters = Reporters::start(self.fleet, port, &self.certificate).await?;
        reporters.active(BUSY).await?;
        sleep(STEADY).await;
        self.cpu_share(reader.pid()?).await
    }

    fn compared(&self, cpu: &[f64], read: Option<&[f64]>) -> anyhow::Result<Vec<Row>> {
        const MEASURE: &str = "CPU, 30 % busy";
        let busy = Summary::of(cpu)?;
        let mut row = self.row(MEASURE, Unit::Fraction, busy);
        let mut rows = Vec::new();
        if let Some(read) = read {
            let read = Summary::of(read)?;
            let ratio = Summary {
                median: busy.median / read.median,
                low: busy.low / read.high,
                high: busy.high / read.low,
            };
            row = row.over(READER, ratio);
            rows.push(Row::new(self.case, READER, MEASURE, Unit::Fraction, read));
        }
        if self.fleet.pods() == BUDGETED {
            row = row.at_most(0.15);
        }
        rows.insert(0, row);
        Ok(rows)
    }
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
