//! Carries out the fleet's decisions with real processes, and tells everybody who routes to replicas.
//!
//! Decides nothing: that is `fleet`.

use std::collections::BTreeMap;

use stillwake_runtime::shutdown::Shutdown;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::local::{
    fleet::{Action, Fleet, Id, Member, Phase},
    guardian::Guardian,
    metrics::Metrics,
    output::Output,
    ports,
    replica::{Identity, Replica, Template},
};

/// Falls that wait to be handled; replicas wait when they are full.
const WAITING_FALLS: usize = 16;

/// Hears of replicas in the order in which things happen to them.
pub trait Observer: Send {
    /// Its processes are about to be started.
    fn started(&self, replica: &Identity);
    /// It takes requests from now on.
    fn ready(&self, replica: &Identity);
    /// It should get no new requests. Comes before any of its processes is told to stop.
    fn unready(&self, replica: &Identity);
    /// None of its processes is left.
    fn gone(&self, replica: &Identity);
}

/// News from the aggregator about one replica.
#[derive(Clone, Debug)]
pub struct Readiness {
    /// Whose.
    pub uid: String,
    /// Whether it takes requests.
    pub ready: bool,
}

/// What the supervisor shows of itself.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Oldest first.
    pub replicas: Vec<ReplicaView>,
    /// Replicas that were ever started.
    pub started: u64,
    /// Replicas that fell over or never became ready.
    pub failures: u64,
    /// What was wrong with the last of them.
    pub last_failure: Option<String>,
}

impl View {
    /// Returns how many replicas there are, without those that drain.
    pub fn live(&self) -> u32 {
        let live = self.replicas.iter();
        let live = live
            .filter(|replica| replica.member.phase != Phase::Draining)
            .count();
        u32::try_from(live).unwrap_or(u32::MAX)
    }

    /// Returns how many replicas take requests.
    pub fn ready(&self) -> usize {
        let all = self.replicas.iter();
        all.filter(|replica| replica.member.phase == Phase::Ready)
            .count()
    }
}

/// One replica as shown.
#[derive(Clone, Debug)]
pub struct ReplicaView {
    /// Name and ports.
    pub identity: Identity,
    /// Process ids of app and sidecar.
    pub ids: (u32, u32),
    /// Where it is in its life.
    pub member: Member,
}

/// A replica that fell over, and why.
type Fall = (Id, String);

#[derive(Debug)]
struct Running {
    identity: Identity,
    ids: (u32, u32),
    drain: CancellationToken,
}

/// Starts and stops the replicas of one workload.
#[derive(Debug)]
pub struct Supervisor<O> {
    template: Template,
    epoch: u64,
    fleet: Fleet,
    running: BTreeMap<Id, Running>,
    tasks: JoinSet<Id>,
    falls: (mpsc::Sender<Fall>, mpsc::Receiver<Fall>),
    failures: u64,
    last_failure: Option<String>,
    view: watch::Sender<View>,
    abort: CancellationToken,
    output: Output,
    guardian: Guardian,
    metrics: Metrics,
    observer: O,
}

impl<O: Observer> Supervisor<O> {
    /// Creates a supervisor of no replicas that shows itself through `view`.
    pub fn new(
        template: Template,
        fleet: Fleet,
        view: watch::Sender<View>,
        (output, guardian, metrics): (Output, Guardian, Metrics),
        observer: O,
    ) -> Self {
        Self {
            template,
            epoch: rand::random(),
            fleet,
            running: BTreeMap::new(),
            tasks: JoinSet::new(),
            falls: mpsc::channel(WAITING_FALLS),
            failures: 0,
            last_failure: None,
            view,
            abort: CancellationToken::new(),
            output,
            guardian,
            metrics,
            observer,
        }
    }

    /// Keeps as many replicas as `desired` says, until the shutdown drains: then lets all finish and returns when none
    /// is left. An abort stops them at once.
    pub async fn run(
        mut self,
        mut desired: watch::Receiver<u32>,
        mut readiness: mpsc::Receiver<Readiness>,
        shutdown: Shutdown,
    ) {
        self.abort = shutdown.abort.clone();
        let mut stopping = false;
        loop {
            let wanted = if stopping {
                0
            } else {
                *desired.borrow_and_update()
            };
            self.fleet.set_desired(wanted);
            for action in self.fleet.decide(Instant::now()) {
                self.act(action);
            }
            self.show();
            if stopping && self.tasks.is_empty() {
                return;
            }
            let next_decision = self.fleet.next_decision();
            tokio::select! {
                () = shutdown.drain.cancelled(), if !stopping => stopping = true,
                Ok(()) = desired.changed(), if !stopping => {}
                Some(news) = readiness.recv() => self.heard(&news),
                Some((id, cause)) = self.falls.1.recv() => self.fell(id, &cause),
                Some(ended) = self.tasks.join_next() => self.ended(&ended),
                () = until(next_decision), if next_decision.is_some() => {}
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Start(id) => self.start(id),
            Action::Drain(id) => self.drain(id),
            Action::GiveUp(id) => {
                let cause = match self.running.get(&id) {
                    Some(running) => format!(
                        "it did not answer on 127.0.0.1:{} in time",
                        running.identity.port
                    ),
                    None => "it did not start in time".to_owned(),
                };
                self.failed(id, &cause);
                self.drain(id);
            }
        }
    }

    fn start(&mut self, id: Id) {
        let taken = |port| {
            let mut all = self.running.values();
            all.any(|other| other.identity.port == port || other.identity.sidecar_port == port)
        };
        let pair = ports::free(taken)
            .and_then(|port| Some((port, ports::free(|other| other == port || taken(other))?)));
        let started = match pair {
            Some((port, sidecar_port)) => {
                let identity = Identity {
                    uid: format!("{:016x}-{id}", self.epoch),
                    name: format!("{}-{id}", self.template.name).into(),
                    port,
                    sidecar_port,
                };
                // Before the sidecar can report, so that its first report finds its replica known.
                self.observer.started(&identity);
                Replica::start(&self.template, &identity, &self.output, &self.guardian)
                    .map_err(|error| {
                        self.observer.gone(&identity);
                        error.to_string()
                    })
                    .map(|replica| (identity, replica))
            }
            None => Err("there is no free port".to_owned()),
        };
        match started {
            Ok((identity, replica)) => self.launch(id, identity, replica),
            Err(cause) => {
                self.fleet.fell(id, Instant::now());
                self.fleet.ended(id);
                self.failed(id, &cause);
            }
        }
    }

    fn launch(&mut self, id: Id, identity: Identity, replica: Replica) {
        let ids = replica.ids();
        tracing::info!(
            replica = %identity.name,
            pid = ids.0,
            port = identity.port,
            "Started a replica"
        );
        self.metrics.replicas_started.inc();
        let drain = CancellationToken::new();
        let (told, abort, falls) = (drain.clone(), self.abort.clone(), self.falls.0.clone());
        self.tasks.spawn(async move {
            let fell = async |cause| {
                // Fails only if the supervisor is gone, and the replica with it.
                let _ = falls.send((id, cause)).await;
            };
            replica.run(told, abort, fell).await;
            id
        });
        let running = Running {
            identity,
            ids,
            drain,
        };
        self.running.insert(id, running);
    }

    fn drain(&mut self, id: Id) {
        if let Some(running) = self.running.get(&id) {
            tracing::info!(replica = %running.identity.name, "Draining a replica");
            self.observer.unready(&running.identity);
            running.drain.cancel();
        }
    }

    fn heard(&mut self, news: &Readiness) {
        let found = self
            .running
            .iter()
            .find(|(_, running)| running.identity.uid == news.uid);
        let Some((&id, running)) = found else {
            return;
        };
        if self.fleet.heard_ready(id, news.ready, Instant::now()) {
            let replica = &running.identity.name;
            if news.ready {
                tracing::info!(%replica, "Replica is ready");
                self.observer.ready(&running.identity);
            } else {
                tracing::warn!(%replica, "Replica no longer answers");
                self.observer.unready(&running.identity);
            }
        }
    }

    fn fell(&mut self, id: Id, cause: &str) {
        if let Some(running) = self.running.get(&id)
            && self.fleet.fell(id, Instant::now())
        {
            self.observer.unready(&running.identity);
            self.failed(id, cause);
        }
    }

    fn failed(&mut self, id: Id, cause: &str) {
        let replica = format!("{}-{id}", self.template.name);
        tracing::warn!(%replica, cause, "Replica failed");
        self.metrics.replicas_failed.inc();
        self.failures += 1;
        self.last_failure = Some(format!("{replica}: {cause}"));
    }

    fn ended(&mut self, ended: &Result<Id, tokio::task::JoinError>) {
        let id = match ended {
            Ok(id) => id,
            Err(error) => {
                tracing::error!(%error, "The task of a replica ended early");
                return;
            }
        };
        self.fleet.ended(*id);
        if let Some(running) = self.running.remove(id) {
            tracing::info!(replica = %running.identity.name, "Replica ended");
            self.observer.gone(&running.identity);
        }
    }

    fn show(&self) {
        let replicas = self.fleet.members().iter().filter_map(|(id, member)| {
            let running = self.running.get(id)?;
            Some(ReplicaView {
                identity: running.identity.clone(),
                ids: running.ids,
                member: *member,
            })
        });
        let view = View {
            replicas: replicas.collect(),
            started: self.fleet.started(),
            failures: self.failures,
            last_failure: self.last_failure.clone(),
        };
        self.metrics.show(&view);
        self.view.send_replace(view);
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
