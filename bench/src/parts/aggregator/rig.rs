//! An aggregator, or what stands in for it, and its reporters: each a process, and the reporters several.

use std::{ops::Range, time::Duration};

use anyhow::ensure;
use rustix::process::{Resource, getrlimit};
use tokio::time::{Instant, sleep};

use crate::{
    certificates::Certificate,
    fleet::Fleet,
    process,
    roles::{
        Role, aggregator,
        child::Playing,
        reporters::{self, Going, Question, Total},
    },
};

/// Files that a process has open besides its reporters' connections.
const OTHER_FILES: u64 = 200;

/// Most reporters of one process.
const EACH: usize = 15_000;

/// How long reporters may take to connect.
const PATIENCE: Duration = Duration::from_mins(2);

/// Returns how many reporters one aggregator can have here, and how many files a process may open.
pub(in crate::parts) fn most_reporters() -> (usize, u64) {
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(1 << 20);
    let most = usize::try_from(limit.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX);
    (most / 100 * 100, limit)
}

/// Starts an aggregator on any ports, or on those of one that is gone.
pub(in crate::parts) async fn aggregator(
    fleet: Fleet,
    certificate: &Certificate,
    ports: Option<aggregator::Ports>,
) -> anyhow::Result<(Playing, aggregator::Ports)> {
    let settings = aggregator::Settings {
        fleet,
        ingest: ports.map_or(0, |ports| ports.ingest),
        scaler: ports.map_or(0, |ports| ports.scaler),
        certificate: certificate.clone(),
    };
    Playing::start(Role::Aggregator, &settings).await
}

/// All reporters of a fleet.
#[derive(Debug)]
pub(in crate::parts) struct Reporters {
    processes: Vec<Playing>,
    count: usize,
}

impl Reporters {
    /// Starts all of a fleet, and waits until they are connected.
    pub(in crate::parts) async fn start(
        fleet: Fleet,
        port: u16,
        certificate: &Certificate,
    ) -> anyhow::Result<Self> {
        Self::of(fleet, 0..fleet.pods(), port, certificate).await
    }

    /// Starts some of a fleet, and waits until they are connected.
    pub(in crate::parts) async fn of(
        fleet: Fleet,
        pods: Range<usize>,
        port: u16,
        certificate: &Certificate,
    ) -> anyhow::Result<Self> {
        let mut all = Self {
            processes: Vec::new(),
            count: pods.len(),
        };
        for first in pods.clone().step_by(EACH) {
            let settings = reporters::Settings {
                fleet,
                first,
                count: EACH.min(pods.end - first),
                port,
                certificate: certificate.clone(),
            };
            let (process, _) = Playing::start::<Going>(Role::Reporters, &settings).await?;
            all.processes.push(process);
        }
        all.connected().await?;
        Ok(all)
    }

    /// Waits until all are connected.
    pub(in crate::parts) async fn connected(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let going = self.going().await?;
            if going.connected == self.count {
                return Ok(());
            }
            ensure!(
                begun.elapsed() < PATIENCE,
                "only {} of {} reporters are connected after {PATIENCE:?}; {} attempts failed",
                going.connected,
                self.count,
                going.failures
            );
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// How it goes with all of them.
    pub(in crate::parts) async fn going(&mut self) -> anyhow::Result<Going> {
        self.ask(Question::Going).await
    }

    /// From now on so many of a thousand are busy.
    pub(in crate::parts) async fn active(&mut self, thousandths: u32) -> anyhow::Result<Going> {
        self.ask(Question::Active(thousandths)).await
    }

    async fn ask(&mut self, question: Question) -> anyhow::Result<Going> {
        let mut sum = Going::default();
        for process in &mut self.processes {
            let going: Going = process.ask(&question).await?;
            sum.connected += going.connected;
            sum.reports += going.reports;
            sum.failures += going.failures;
        }
        Ok(sum)
    }

    /// What they have counted, workload by workload.
    pub(in crate::parts) async fn ledger(&mut self, fleet: Fleet) -> anyhow::Result<Vec<Total>> {
        let mut all: Vec<Total> = (0..fleet.workloads)
            .map(|workload| Total {
                workload,
                ..Total::default()
            })
            .collect();
        for process in &mut self.processes {
            let totals: Vec<Total> = process.ask(&Question::Ledger).await?;
            for total in totals {
                all[total.workload].in_flight_time += total.in_flight_time;
                all[total.workload].requests += total.requests;
            }
        }
        Ok(all)
    }
}

/// Which part of a core a process used in each of some slices of time.
pub(in crate::parts) async fn cpu_share(
    pid: i32,
    slices: usize,
    slice: Duration,
) -> anyhow::Result<Vec<f64>> {
    let mut shares = Vec::with_capacity(slices);
    for _ in 0..slices {
        let (begun, before) = (Instant::now(), process::cpu_time(pid)?);
        sleep(slice).await;
        let used = process::cpu_time(pid)?.saturating_sub(before);
        shares.push(used.as_secs_f64() / begun.elapsed().as_secs_f64());
    }
    Ok(shares)
}
