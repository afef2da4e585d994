//! The mixed load, and whom it falls upon.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use http::{Method, StatusCode};
use stillwake_e2e::client::{Connection, request, whole};
use tempfile::TempDir;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    backend::Backend,
    certificates::Certificate,
    context::Context,
    fleet::Fleet,
    keda::Keda,
    parts::{
        activator::clients::{self, Crowd},
        aggregator::rig::{self, Reporters},
    },
    peers::{Around, Mode, Proxy, Running},
    roles::{
        Role,
        activator::{self, Held, Question},
        child::Playing,
    },
};

/// Pods that report all the time, and some that come and go.
const FLEET: Fleet = Fleet::of_pods(500);

/// How many of a thousand pods are busy.
const BUSY: u32 = 300;

/// Questions of KEDA in a second.
const RATE: u32 = 200;

/// How long some pods last that come and go, and how long a workload is at zero, in turns.
const TURN: Duration = Duration::from_secs(5);

/// Clients of each kind.
const CLIENTS: usize = 8;

/// Requests that are held together.
const CROWD: usize = 200;

/// Between two requests of a client, so that the load is one that lasts.
const PAUSE: Duration = Duration::from_millis(5);

/// Answers of a few sizes.
const PATHS: [&str; 3] = ["/1024", "/65536", "/stream"];

/// All that runs.
#[derive(Debug)]
pub(super) struct Stage {
    sidecar: Running,
    activator_pid: i32,
    aggregator: Playing,
    requests: Arc<AtomicU64>,
    work: JoinSet<anyhow::Result<()>>,
    _backend: Backend,
    _folder: TempDir,
}

impl Stage {
    pub(super) async fn start(context: &Context) -> anyhow::Result<Self> {
        let (folder, certificate) = Certificate::make()?;
        let backend = Backend::start(&Around::default()).await?;
        let around = Around::default();
        let sidecar =
            Running::start(Proxy::Sidecar, context, &backend, Mode::Http1, &around).await?;
        let (aggregator, ports) = rig::aggregator(FLEET, &certificate, None).await?;
        let settings = activator::Settings {
            workloads: 1,
            aggregator: Some(ports.ingest),
            certificate: certificate.clone(),
            max_held: 1_000,
        };
        let (activator, listening) = Playing::start::<Vec<u16>>(Role::Activator, &settings).await?;
        let activator_pid = activator.pid()?;
        let door = SocketAddr::from((Ipv4Addr::LOCALHOST, listening[0]));

        let requests = Arc::new(AtomicU64::new(0));
        let mut work = JoinSet::new();
        for first in 0..CLIENTS {
            work.spawn(keep_alive(sidecar.address, first, Arc::clone(&requests)));
            work.spawn(closing(sidecar.address, Arc::clone(&requests)));
        }
        work.spawn(waking(activator, door, backend.http, Arc::clone(&requests)));
        work.spawn(reporting(ports.ingest, certificate));
        work.spawn(asking(Keda::connect(ports.scaler).await?));
        Ok(Self {
            sidecar,
            activator_pid,
            aggregator,
            requests,
            work,
            _backend: backend,
            _folder: folder,
        })
    }

    /// Whose memory is looked at.
    pub(super) fn subjects(&self) -> anyhow::Result<Vec<(&'static str, i32)>> {
        let sidecar = self.sidecar.pid().context("the sidecar has ended")?;
        Ok(vec![
            ("sidecar", sidecar),
            ("activator", self.activator_pid),
            ("aggregator", self.aggregator.pid()?),
        ])
    }

    /// Waits for work that fails; none of it ends by itself.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        match self.work.join_next().await {
            Some(Ok(Err(error))) => error,
            ended => anyhow::anyhow!("work has ended: {ended:?}"),
        }
    }

    /// Ends all, and says what was done.
    pub(super) async fn end(mut self) -> anyhow::Result<String> {
        self.work.shutdown().await;
        let requests = self.requests.load(Ordering::Relaxed);
        ensure!(requests > 0, "no request was answered");
        Ok(format!(
            "{requests} requests through sidecar and activator; {} sidecars that report, some of which come and go",
            FLEET.pods()
        ))
    }
}

async fn keep_alive(
    address: SocketAddr,
    first: usize,
    answered: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    let mut connection = Connection::open(address).await?;
    for number in first.. {
        let path = PATHS[number % PATHS.len()];
        let answer = connection
            .send(request(Method::GET, path, 0, whole("")))
            .await?;
        ensure!(
            answer.status == StatusCode::OK,
            "{} for {path}",
            answer.status
        );
        answered.fetch_add(1, Ordering::Relaxed);
        sleep(PAUSE).await;
    }
    Ok(())
}

async fn closing(address: SocketAddr, answered: Arc<AtomicU64>) -> anyhow::Result<()> {
    loop {
        Crowd::asking(address, 1).await?.answered().await?;
        answered.fetch_add(1, Ordering::Relaxed);
        sleep(PAUSE).await;
    }
}

/// Lets a crowd wait, lets it go, forwards for a while, and begins anew.
async fn waking(
    mut activator: Playing,
    door: SocketAddr,
    backend: SocketAddr,
    answered: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    loop {
        let crowd = Crowd::asking(door, CROWD).await?;
        sleep(PAUSE * 20).await;
        activator.ask::<Held>(&Question::Ready(backend)).await?;
        crowd.answered().await?;
        let forwarded = clients::load(door, CLIENTS, TURN / 10).await?;
        answered.fetch_add(forwarded + CROWD as u64, Ordering::Relaxed);
        activator.ask::<Held>(&Question::Gone).await?;
        sleep(TURN / 10).await;
    }
}

/// Reports for most pods all the time, and for the last of them by processes that end and are followed by others.
async fn reporting(port: u16, certificate: Certificate) -> anyhow::Result<()> {
    let lasting = FLEET.pods() * 4 / 5;
    let mut all = Reporters::of(FLEET, 0..lasting, port, &certificate).await?;
    all.active(BUSY).await?;
    loop {
        let mut some = Reporters::of(FLEET, lasting..FLEET.pods(), port, &certificate).await?;
        some.active(BUSY).await?;
        sleep(TURN).await;
        drop(some);
        all.going().await?;
    }
}

async fn asking(keda: Keda) -> anyhow::Result<()> {
    let mut wakes = Vec::new();
    loop {
        let begun = Instant::now();
        wakes.clear();
        for index in 0..FLEET.workloads {
            wakes.push(keda.wakes(index).await?);
        }
        keda.ask(FLEET, RATE, TURN * 10).await?;
        ensure!(begun.elapsed() >= TURN, "no time has passed");
    }
}
