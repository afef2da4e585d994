//! Reporters that a suite plays: they say what it wants, as the product's own say what they count.
//!
//! The protocol and the counting are the product's; only who is in flight is made up.

use std::{net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use stillwake_proto::report::{
    Count, Held, HeldReport, Hello, PodReport, Port, Role, Workload, reporter_frame::Kind,
};
use stillwake_proxy::in_flight::{InFlight, InFlightGuard};
use stillwake_reporting::{
    Report, Reporter, ReportingConfig, Session, Source, microseconds, random_epoch,
};
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// One reporter and its connection. Dropped, it is gone without a last word.
#[derive(Debug)]
pub struct Played {
    source: Arc<PlayedSource>,
    _reporting: AbortOnDropHandle<()>,
}

impl Played {
    /// Plays an activator that holds nothing yet for one workload.
    pub fn activator(ingest: SocketAddr, workload: Workload) -> Self {
        let hello = Hello {
            epoch: random_epoch(),
            role: Role::Activator.into(),
            namespace: workload.namespace.clone(),
            pod: "activator".to_owned(),
            uid: format!("activator-{:016x}", rand::random::<u64>()),
            ..Hello::default()
        };
        Self::start(ingest, hello, Part::Activator(workload))
    }

    /// Plays the sidecar of a pod with nothing in flight.
    pub fn sidecar(
        ingest: SocketAddr,
        namespace: &str,
        pod: &str,
        uid: &str,
        address: &str,
    ) -> Self {
        let hello = Hello {
            epoch: random_epoch(),
            role: Role::Sidecar.into(),
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            uid: uid.to_owned(),
            address: address.to_owned(),
            ports: vec![Port {
                listen: 8080,
                app: 8080,
            }],
            ..Hello::default()
        };
        Self::start(ingest, hello, Part::Sidecar)
    }

    fn start(ingest: SocketAddr, hello: Hello, part: Part) -> Self {
        let source = Arc::new(PlayedSource {
            part,
            in_flight: InFlight::new(),
            requests: Mutex::default(),
            edges: watch::Sender::new(0),
        });
        let config = ReportingConfig::new(vec![ingest.to_string()], hello);
        let reporter = Reporter::new(config, Arc::clone(&source) as Arc<dyn Source>);
        // Nobody wants to know of endpoints.
        let (endpoints, _) = mpsc::channel(1);
        let reporting = tokio::spawn(reporter.run(endpoints, CancellationToken::new()));
        Self {
            source,
            _reporting: AbortOnDropHandle::new(reporting),
        }
    }

    /// Begins or ends requests until so many are in flight, or held, and reports that at once.
    pub fn set(&self, count: usize) {
        let source = &self.source;
        source
            .requests
            .lock()
            .resize_with(count, || source.in_flight.begin());
        source.edges.send_modify(|edges| *edges += 1);
    }
}

/// As whom it reports.
#[derive(Clone, Debug)]
enum Part {
    Sidecar,
    Activator(Workload),
}

#[derive(Debug)]
struct PlayedSource {
    part: Part,
    in_flight: InFlight,
    requests: Mutex<Vec<InFlightGuard>>,
    edges: watch::Sender<u64>,
}

impl Source for PlayedSource {
    fn session(&self) -> Box<dyn Session> {
        Box::new(PlayedSession {
            part: self.part.clone(),
            in_flight: self.in_flight.clone(),
        })
    }

    fn edges(&self) -> watch::Receiver<u64> {
        self.edges.subscribe()
    }
}

struct PlayedSession {
    part: Part,
    in_flight: InFlight,
}

impl Session for PlayedSession {
    fn report(&mut self) -> Report {
        let snapshot = self.in_flight.snapshot();
        let elapsed = microseconds(snapshot.elapsed);
        let count = Some(Count {
            in_flight: snapshot.in_flight,
            in_flight_time: microseconds(snapshot.in_flight_time),
            requests: snapshot.requests,
        });
        let kind = match &self.part {
            Part::Sidecar => Kind::Pod(PodReport {
                elapsed,
                count,
                app_ready: true,
                draining: false,
            }),
            Part::Activator(workload) => {
                let workload = Some(workload.clone());
                let held = vec![Held { workload, count }];
                Kind::Held(HeldReport { elapsed, held })
            }
        };
        Report {
            kind,
            requests: snapshot.in_flight,
        }
    }
}
