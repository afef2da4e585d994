//! What a request takes that is forwarded to a pod while its workload is awake: by Stillwake's activators, by the Add-on's
//! interceptors, and by nobody.

use std::{collections::BTreeSet, net::SocketAddr, ops::AddAssign, time::Duration};

use anyhow::{Context, ensure};
use futures_util::future::join_all;
use serde::Serialize;
use stillwake_e2e::{
    benchmark::summary::Timed,
    cluster::{
        Namespace, http_add_on, pods,
        stillwake::{Component, Stillwake},
        web,
    },
    ledger::{Ledger, Outcome},
    load::{Kind, Load},
    processes,
};
use tokio::time::Instant;

use super::{add_on::AddOn, stillwake::Sleeper};

/// How often it is measured.
pub(super) const BLOCKS: usize = 10;

/// How many ask at once: too few for anybody to ask for another replica of anything.
pub(super) const CLIENTS: usize = 32;

/// Bytes of an answer's body.
pub(super) const LENGTH: usize = 1024;

/// How long the one request takes that is always in flight, so that no workload falls asleep while the others have their turn.
const AWAKE: Duration = Duration::from_secs(2);

/// How a request comes to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// On a connection of its own, which activators give back.
    Activator,
    /// On a connection of its own too.
    Interceptor,
    /// On a connection that is kept for others, as interceptors let clients do.
    Kept,
    /// On a connection of its own to the pod itself.
    Direct,
}

impl Way {
    pub(super) const ALL: [Self; 4] =
        [Self::Activator, Self::Interceptor, Self::Kept, Self::Direct];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Activator => "Stillwake's activator, a new connection each",
            Self::Interceptor => "HTTP Add-on's interceptor, a new connection each",
            Self::Kept => "HTTP Add-on's interceptor, connections kept",
            Self::Direct => "nobody: to the pod, a new connection each",
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Kept => Kind::KeepAlive(LENGTH),
            Self::Activator | Self::Interceptor | Self::Direct => Kind::Close(LENGTH),
        }
    }
}

/// All that was measured, block by block.
#[derive(Debug)]
pub(super) struct Forwarding {
    /// How many came each way in a block.
    pub(super) requests: usize,
    /// In the order of [`Way::ALL`].
    pub(super) ways: [Costs; Way::ALL.len()],
    /// Processors that all activators took together while they had nothing to forward.
    pub(super) activators_idle: f64,
    /// And all interceptors.
    pub(super) interceptors_idle: f64,
}

/// CPU time of one request.
#[derive(Debug, Default, Serialize)]
pub(super) struct Costs {
    /// Of all who forward this way; none where nobody does.
    pub(super) forwarding: Vec<Timed>,
    /// Of the client.
    pub(super) client: Vec<Timed>,
}

/// Wakes both workloads, sends `requests` in each way in each block, and returns what they took.
pub(super) async fn measure(
    namespace: &Namespace,
    stillwake: &Stillwake,
    ours: &Sleeper,
    add_on: &AddOn,
    requests: usize,
) -> anyhow::Result<Forwarding> {
    let ledger = Ledger::default();
    let awake = [ours.load(&ledger), add_on.load(&ledger)];
    for load in &awake {
        load.steady(1, AWAKE);
    }
    eprintln!("Forwarding {requests} requests of each in {BLOCKS} blocks");
    let rig = Rig::find(namespace, stillwake, ours, add_on).await?;
    let mut ways: [Costs; Way::ALL.len()] = Default::default();
    let mut idle = Taken::default();
    // The first block is not counted: connections and memory are taken for the first time in it.
    for block in 0..=BLOCKS {
        let mut row = [Taken::default(); Way::ALL.len()];
        // In order, and the same way back, so that nobody gains by a place while the machine becomes slower or faster.
        for way in Way::ALL.into_iter().chain(Way::ALL.into_iter().rev()) {
            row[way as usize] += rig.send(add_on, way, requests.div_ceil(2)).await?;
        }
        let told = Way::ALL.map(|way| row[way as usize].told(way));
        eprintln!("forwarding, {block} of {BLOCKS}: {}", told.join("; "));
        if block == 0 {
            continue;
        }
        idle += row[Way::Direct as usize];
        for (way, costs) in Way::ALL.into_iter().zip(&mut ways) {
            let taken = row[way as usize];
            let each = |time| Timed::of(taken.each(time), || Ok(()));
            costs.forwarding.extend(taken.of(way).map(each));
            costs.client.push(each(taken.client));
        }
    }
    let now = Rig::find(namespace, stillwake, ours, add_on).await?;
    ensure!(rig == now, "{rig:?} has become {now:?}");
    for load in awake {
        load.finish().await;
    }
    let verdict = ledger.verdict();
    ensure!(verdict.is_lossless_so_far(), "{verdict}");
    let seconds = idle.time.as_secs_f64();
    Ok(Forwarding {
        requests,
        ways,
        activators_idle: idle.activators.as_secs_f64() / seconds,
        interceptors_idle: idle.interceptors.as_secs_f64() / seconds,
    })
}

/// Whom requests are sent to, and whose time is taken. Has to be the same in the end.
#[derive(Debug, PartialEq)]
struct Rig {
    /// Where they take the connections of Stillwake's workload.
    activators: Vec<SocketAddr>,
    /// The Add-on's, with nothing beside the app.
    app: SocketAddr,
    /// UIDs of both workloads' pods.
    pods: Vec<Option<String>>,
    activator_processes: BTreeSet<i32>,
    interceptor_processes: BTreeSet<i32>,
}

impl Rig {
    /// Waits until both workloads have their one replica, and all activators know of theirs.
    async fn find(
        namespace: &Namespace,
        stillwake: &Stillwake,
        ours: &Sleeper,
        add_on: &AddOn,
    ) -> anyhow::Result<Self> {
        let (activators, pods, others) =
            tokio::try_join!(ours.activators(), ours.pods(), add_on.pods())?;
        let app = others.first().and_then(pods::address);
        let replicas = stillwake.replicas(Component::Activator).await?;
        let interceptors = http_add_on::interceptors(namespace).await?;
        let all = pods.into_iter().chain(others);
        Ok(Self {
            activators,
            app: SocketAddr::new(app.context("a pod without an address")?, web::PORT),
            pods: all.map(|pod| pod.metadata.uid).collect(),
            activator_processes: pods::processes(&replicas)?,
            interceptor_processes: pods::processes(&interceptors)?,
        })
    }

    /// Sends so many requests, and returns what they took if each was answered without having waited.
    async fn send(&self, add_on: &AddOn, way: Way, count: usize) -> anyhow::Result<Taken> {
        let ledger = Ledger::default();
        let to = |address: &SocketAddr| Load::new(*address, ledger.clone());
        let loads: Vec<_> = match way {
            Way::Activator => self.activators.iter().map(to).collect(),
            Way::Interceptor | Way::Kept => vec![add_on.load(&ledger)],
            Way::Direct => vec![to(&self.app)],
        };
        let (count, clients) = (count.div_ceil(loads.len()), CLIENTS.div_ceil(loads.len()));
        let (begun, before) = (Instant::now(), self.used()?);
        let sent = loads
            .iter()
            .map(|load| load.requests(count, clients, way.kind()));
        join_all(sent).await;
        let [activators, interceptors, client] = self.used()?;
        let time = begun.elapsed();
        let verdict = ledger.verdict();
        ensure!(verdict.failed.is_empty(), "{}: {verdict}", way.name());
        let entries = ledger.entries().into_values();
        let mut answers = entries.filter_map(|entry| match entry.outcome {
            Some(Outcome::Answered(answer)) => answer,
            _ => None,
        });
        let waited = answers
            .find(|answer| answer.cold_start().is_some() || super::add_on::has_waited(answer));
        ensure!(waited.is_none(), "{}: it waited: {waited:?}", way.name());
        Ok(Taken {
            requests: verdict.answered(),
            time,
            activators: activators.saturating_sub(before[0]),
            interceptors: interceptors.saturating_sub(before[1]),
            client: client.saturating_sub(before[2]),
        })
    }

    /// Returns the CPU time that all activators, all interceptors and this process have used.
    fn used(&self) -> anyhow::Result<[Duration; 3]> {
        let of = |processes: &BTreeSet<i32>| {
            let times = processes.iter().map(|pid| processes::cpu_time(*pid));
            times.sum::<anyhow::Result<Duration>>()
        };
        let own = i32::try_from(std::process::id())?;
        Ok([
            of(&self.activator_processes)?,
            of(&self.interceptor_processes)?,
            processes::cpu_time(own)?,
        ])
    }
}

/// What some requests of one way took together.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    requests: u64,
    /// On the clock.
    time: Duration,
    /// CPU of all activators.
    activators: Duration,
    /// Of all interceptors.
    interceptors: Duration,
    /// Of the client.
    client: Duration,
}

impl Taken {
    /// Returns the CPU time of those who forward this way.
    fn of(&self, way: Way) -> Option<Duration> {
        match way {
            Way::Activator => Some(self.activators),
            Way::Interceptor | Way::Kept => Some(self.interceptors),
            Way::Direct => None,
        }
    }

    /// Returns the part of a time that is one request's.
    fn each(&self, time: Duration) -> Duration {
        time.div_f64(self.requests as f64)
    }

    fn told(&self, way: Way) -> String {
        let each = |time| format!("{:.1?}", self.each(time));
        let forwarding = self.of(way).map_or_else(|| "nothing".to_owned(), each);
        format!("{way:?} {forwarding}, client {}", each(self.client))
    }
}

impl AddAssign for Taken {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.time += other.time;
        self.activators += other.activators;
        self.interceptors += other.interceptors;
        self.client += other.client;
    }
}
