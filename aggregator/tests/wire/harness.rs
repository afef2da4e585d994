//! An aggregator on free ports, and the two kinds of peers it has.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use stillwake_aggregator::{Aggregator, MembershipEvent, Pod, ScaledObject, Settings};
use stillwake_proto::{
    REPORT_VERSION,
    frame::FrameCodec,
    report::{
        AggregatorFrame, Count, Held, HeldReport, Hello, PodReport, Port, ReporterFrame, Role,
        Workload, aggregator_frame, reporter_frame::Kind,
    },
    scaler::{GetMetricsRequest, ScaledObjectRef, external_scaler_client::ExternalScalerClient},
};
use stillwake_runtime::tls::Acceptor;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::{codec::Framed, sync::CancellationToken};
use tonic::transport::Channel;

/// How long anything may take before a test says that it does not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) type Client = ExternalScalerClient<Channel>;

/// A running aggregator.
pub(crate) struct Rig {
    pub(crate) aggregator: Aggregator,
    pub(crate) ingest: SocketAddr,
    pub(crate) scaler: SocketAddr,
    pub(crate) stop: CancellationToken,
    servers: Vec<JoinHandle<()>>,
}

pub(crate) fn workload() -> Workload {
    Workload {
        namespace: "shop".to_owned(),
        kind: "Deployment".to_owned(),
        name: "web".to_owned(),
    }
}

pub(crate) fn pod(uid: &str) -> MembershipEvent {
    MembershipEvent::Pod(Pod {
        uid: uid.to_owned(),
        name: format!("pod-{uid}"),
        workload: workload(),
        ready: true,
        reports: true,
    })
}

pub(crate) fn object(metadata: &[(&str, &str)]) -> ScaledObjectRef {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    ScaledObjectRef {
        name: "web-scaler".to_owned(),
        namespace: "shop".to_owned(),
        scaler_metadata: metadata.iter().map(owned).collect::<HashMap<_, _>>(),
    }
}

pub(crate) fn metric(name: &str, metadata: &[(&str, &str)]) -> GetMetricsRequest {
    GetMetricsRequest {
        scaled_object_ref: Some(object(metadata)),
        metric_name: name.to_owned(),
    }
}

impl Rig {
    /// Starts an aggregator that knows the `ScaledObject` `shop/web-scaler`, but is not synced.
    pub(crate) async fn start(settings: Settings, acceptor: Acceptor) -> Self {
        let aggregator = Aggregator::new(settings);
        aggregator.apply(MembershipEvent::ScaledObject(ScaledObject {
            namespace: "shop".to_owned(),
            name: "web-scaler".to_owned(),
            workload: workload(),
            polling_interval: Duration::from_secs(30),
        }));
        let listener = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (ingest, scaler) = (listener().await, listener().await);
        let stop = CancellationToken::new();
        let addresses = (ingest.local_addr().unwrap(), scaler.local_addr().unwrap());
        let mut servers = Vec::new();
        let (served, tls, token) = (aggregator.clone(), acceptor.clone(), stop.clone());
        servers.push(tokio::spawn(async move {
            served.serve_ingest(ingest, tls, token).await;
        }));
        let (served, token) = (aggregator.clone(), stop.clone());
        servers.push(tokio::spawn(async move {
            served.serve_scaler(scaler, acceptor, token).await;
        }));
        Self {
            aggregator,
            ingest: addresses.0,
            scaler: addresses.1,
            stop,
            servers,
        }
    }

    /// Starts one in plaintext that is synced.
    pub(crate) async fn synced(settings: Settings) -> Self {
        let rig = Self::start(settings, Acceptor::plaintext()).await;
        rig.aggregator.apply(MembershipEvent::Synced);
        rig
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(format!("http://{}", self.scaler))
            .await
            .unwrap()
    }

    /// Waits until both servers have returned after `stop`.
    pub(crate) async fn ended(self) {
        for server in self.servers {
            within(server).await.unwrap();
        }
    }
}

/// Waits for something that must happen.
pub(crate) async fn within<T>(happening: impl Future<Output = T>) -> T {
    timeout(PATIENCE, happening)
        .await
        .expect("it does not happen")
}

/// Asks again and again until the answer is the one waited for.
pub(crate) async fn eventually<T: std::fmt::Debug>(
    mut ask: impl AsyncFnMut() -> T,
    expected: impl Fn(&T) -> bool,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask().await;
        if expected(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "it stays {answer:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A sidecar or an activator.
pub(crate) struct Reporter {
    pub(crate) frames: Framed<TcpStream, FrameCodec<ReporterFrame, AggregatorFrame>>,
    elapsed: u64,
}

pub(crate) fn hello(role: Role, uid: &str) -> Hello {
    Hello {
        version: REPORT_VERSION,
        epoch: 1,
        role: role.into(),
        namespace: "shop".to_owned(),
        pod: format!("pod-{uid}"),
        uid: uid.to_owned(),
        token: String::new(),
        address: "127.0.0.1".to_owned(),
        ports: vec![Port {
            listen: 15080,
            app: 8080,
        }],
    }
}

impl Reporter {
    pub(crate) async fn connect(rig: &Rig, role: Role, uid: &str) -> Self {
        let mut reporter = Self::open(rig).await;
        reporter.send(Kind::Hello(hello(role, uid))).await;
        let pace = reporter.hear().await;
        assert!(matches!(pace, aggregator_frame::Kind::Pace(_)), "{pace:?}");
        reporter
    }

    /// Connects and says nothing.
    pub(crate) async fn open(rig: &Rig) -> Self {
        let stream = TcpStream::connect(rig.ingest).await.unwrap();
        Self {
            frames: Framed::new(stream, FrameCodec::default()),
            elapsed: 0,
        }
    }

    pub(crate) async fn send(&mut self, kind: Kind) {
        let frame = ReporterFrame { kind: Some(kind) };
        self.frames.send(frame).await.unwrap();
    }

    pub(crate) async fn hear(&mut self) -> aggregator_frame::Kind {
        let frame = within(self.frames.next()).await;
        frame
            .expect("the aggregator closed the connection")
            .unwrap()
            .kind
            .unwrap()
    }

    /// Waits until the aggregator has closed the connection.
    pub(crate) async fn closed(&mut self) {
        within(async { while let Some(Ok(_)) = self.frames.next().await {} }).await;
    }

    pub(crate) async fn report(&mut self, in_flight: u64, requests: u64) {
        self.elapsed += 1_000;
        let report = PodReport {
            elapsed: self.elapsed,
            count: Some(count(in_flight, requests)),
            app_ready: true,
            draining: false,
        };
        self.send(Kind::Pod(report)).await;
    }

    pub(crate) async fn hold(&mut self, held: u64, requests: u64) {
        self.elapsed += 1_000;
        let held = Held {
            workload: Some(workload()),
            count: Some(count(held, requests)),
        };
        let report = HeldReport {
            elapsed: self.elapsed,
            held: vec![held],
        };
        self.send(Kind::Held(report)).await;
    }
}

fn count(in_flight: u64, requests: u64) -> Count {
    Count {
        in_flight,
        in_flight_time: 0,
        requests,
    }
}
