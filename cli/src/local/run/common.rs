//! What the parts of local mode share, and how those that are the product's own are started.
//!
//! In which order they come and go is decided in `run`.

use std::{net::SocketAddr, path::PathBuf, pin::pin, time::Duration};

use stillwake_activator::{self as activator, Activator, Availability, Route};
use stillwake_aggregator::{self as aggregator, Aggregator, MembershipEvent, ScaledObject};
use stillwake_proto::report::{Endpoint, Hello, Role, Workload};
use stillwake_reporting::{Reporter, ReportingConfig, random_epoch};
use stillwake_runtime::{admin::Admin, readiness::Readiness, shutdown::Shutdown, tls::Acceptor};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    LOOK_INTERVAL, NAMESPACE, parts, parts::WAITING_ENDPOINTS, routes::Routes, state::State,
};
use crate::local::{
    metrics::Metrics, options::Options, replica::Template, scaler, service::Service, supervisor,
};

/// What is cancelled one after the other to take everything down without losing a request.
#[derive(Clone, Debug)]
pub(super) struct Stages {
    /// New connections are refused.
    pub(super) accepting: CancellationToken,
    /// No connection of ours goes to the activator any more.
    pub(super) settled: CancellationToken,
    /// Nothing is held any more, so nobody needs to be woken.
    pub(super) scaling: CancellationToken,
    /// No replica is left.
    pub(super) serving: CancellationToken,
    /// At any time: do not finish anything.
    pub(super) abort: CancellationToken,
}

/// Everything that more than one part has to hand.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) workload: Workload,
    pub(super) aggregator: Aggregator,
    pub(super) activator: Activator,
    pub(super) service: Service,
    pub(super) metrics: Metrics,
    pub(super) readiness: Readiness,
    pub(super) stages: Stages,
    /// What runs until the last stage.
    pub(super) background: TaskTracker,
}

impl Common {
    /// Creates the aggregator, the activator and the Service, and tells them of the one workload there is.
    pub(super) fn new(
        options: &Options,
        activator_address: SocketAddr,
        shutdown: &Shutdown,
    ) -> Self {
        let workload = parts::workload(&options.command);
        let readiness = Readiness::default();
        let aggregator = Aggregator::new(aggregator::Settings::default());
        aggregator.ready_when_synced(readiness.latch());
        aggregator.apply(MembershipEvent::ScaledObject(ScaledObject {
            namespace: NAMESPACE.to_owned(),
            name: workload.name.clone(),
            workload: workload.clone(),
            polling_interval: options.polling_interval,
            max_replicas: options.keda.max,
            paused: false,
        }));
        aggregator.apply(MembershipEvent::Synced);
        let activator = Activator::new(activator::Settings {
            max_held: options.max_held,
            max_held_bytes: options.max_held_bytes,
            hold_timeout: options.hold_timeout,
            ..activator::Settings::default()
        });
        activator.set_workload(workload.clone(), Availability::Available);
        let metrics = Metrics::default();
        Self {
            workload,
            aggregator,
            activator,
            service: Service::new(activator_address, metrics.clone()),
            metrics,
            readiness,
            stages: Stages {
                accepting: shutdown.drain.clone(),
                settled: CancellationToken::new(),
                scaling: CancellationToken::new(),
                serving: CancellationToken::new(),
                abort: shutdown.abort.clone(),
            },
            background: TaskTracker::new(),
        }
    }

    /// Returns the admin pages, with the metrics of all parts.
    pub(super) fn pages(
        &self,
        scaler_address: SocketAddr,
        scaler: watch::Receiver<scaler::View>,
        fleet: watch::Receiver<supervisor::View>,
    ) -> Admin {
        let state = State {
            scaler_address,
            scaler,
            fleet,
            aggregator: self.aggregator.clone(),
            activator: self.activator.clone(),
        };
        let mut registry = stillwake_runtime::metrics::registry("local");
        self.metrics.register(&mut registry);
        self.aggregator.register_metrics(&mut registry);
        self.activator.register_metrics(&mut registry);
        Admin::new(self.readiness.clone(), registry, move || state.json())
    }

    /// Returns what all replicas have in common.
    pub(super) fn template(
        &self,
        options: &Options,
        sidecar: PathBuf,
        ingest: SocketAddr,
    ) -> Template {
        Template {
            command: options.command.clone(),
            sidecar,
            aggregator: ingest,
            namespace: NAMESPACE.to_owned(),
            name: self.workload.name.clone(),
            grace: options.grace,
        }
    }

    /// Returns whom the supervisor tells of its replicas.
    pub(super) fn routes(&self) -> Routes {
        Routes {
            workload: self.workload.clone(),
            service: self.service.clone(),
            activator: self.activator.clone(),
            aggregator: self.aggregator.clone(),
        }
    }

    /// Takes clients' connections while the first stage lasts.
    pub(super) fn spawn_service(&self, listener: TcpListener) -> JoinHandle<()> {
        let (service, stages) = (self.service.clone(), self.stages.clone());
        tokio::spawn(async move {
            let Stages {
                accepting,
                settled,
                abort,
                ..
            } = stages;
            service.serve(listener, accepting, settled, abort).await;
        })
    }

    /// Takes the Service's connections until it makes no more. What is still held when `grace` has passed after that
    /// is answered with 503.
    pub(super) fn spawn_activator(&self, listener: TcpListener, grace: Duration) -> JoinHandle<()> {
        let (activator, route) = (self.activator.clone(), Route::only(self.workload.clone()));
        let (drain, abort) = (self.stages.settled.clone(), self.stages.abort.child_token());
        tokio::spawn(async move {
            let overdue = async {
                drain.cancelled().await;
                tokio::time::sleep(grace).await;
                tracing::warn!(
                    ?grace,
                    "The grace is over, ending what the activator still has"
                );
                abort.cancel();
            };
            let serving = activator.serve(listener, route, drain.clone(), abort.clone());
            let mut serving = pin!(serving);
            tokio::select! {
                () = &mut serving => return,
                () = overdue => {}
            }
            serving.await;
        })
    }

    /// Serves reporters and KEDA's gRPC.
    pub(super) fn spawn_aggregator(&self, ingest: TcpListener, scaler: TcpListener) {
        let (collecting, answering) = (self.aggregator.clone(), self.aggregator.clone());
        let (stop, stop_too) = (self.stages.serving.clone(), self.stages.serving.clone());
        self.background.spawn(async move {
            collecting
                .serve_ingest(ingest, Acceptor::plaintext(), stop)
                .await;
        });
        self.background.spawn(async move {
            answering
                .serve_scaler(scaler, Acceptor::plaintext(), stop_too)
                .await;
        });
    }

    /// Reports what the activator holds, and passes on what it hears of endpoints. Not ready before it is connected.
    pub(super) fn spawn_reporter(
        &self,
        ingest: SocketAddr,
        news: mpsc::Sender<supervisor::Readiness>,
    ) {
        let hello = Hello {
            epoch: random_epoch(),
            role: Role::Activator.into(),
            namespace: NAMESPACE.to_owned(),
            pod: "activator".to_owned(),
            uid: format!("activator-{:016x}", rand::random::<u64>()),
            ..Hello::default()
        };
        let mut config = ReportingConfig::new(vec![ingest.to_string()], hello);
        config.minimum_gap = activator::REPORT_GAP;
        let reporter = Reporter::new(config, self.activator.source());
        // While the aggregator still listens, so that the last report gets there.
        let (status, stop) = (reporter.status(), self.stages.scaling.clone());
        let unconnected = self.readiness.latch();
        self.background
            .spawn(stop.clone().run_until_cancelled_owned(async move {
                while status.connected() == 0 {
                    tokio::time::sleep(LOOK_INTERVAL).await;
                }
                drop(unconnected);
            }));
        let (endpoints, mut heard) = mpsc::channel::<Endpoint>(WAITING_ENDPOINTS);
        self.background.spawn(reporter.run(endpoints, stop));
        self.background.spawn(async move {
            // Ends with the reporter, which holds the other end.
            while let Some(Endpoint { uid, ready, .. }) = heard.recv().await {
                // The supervisor is the one place that knows which replicas are on their way out.
                if news
                    .send(supervisor::Readiness { uid, ready })
                    .await
                    .is_err()
                {
                    return;
                }
            }
        });
    }
}
