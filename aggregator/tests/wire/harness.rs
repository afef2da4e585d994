//! An aggregator on free ports, and the two kinds of peers it has.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use prometheus_client::{encoding::text, registry::Registry};
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
use stillwake_runtime::tls::{Acceptor, MaybeTls};
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
        terminating: false,
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
        Self::serve(Aggregator::new(settings), acceptor.clone(), acceptor).await
    }

    /// The same for an aggregator that was made otherwise, with a way to take connections for each of its ports.
    pub(crate) async fn serve(aggregator: Aggregator, reports: Acceptor, keda: Acceptor) -> Self {
        let ingest = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::serve_on(ingest, aggregator, reports, keda).await
    }

    /// The same on a port that is there already.
    pub(crate) async fn serve_on(
        ingest: TcpListener,
        aggregator: Aggregator,
        reports: Acceptor,
        keda: Acceptor,
    ) -> Self {
        aggregator.apply(MembershipEvent::ScaledObject(ScaledObject {
            namespace: "shop".to_owned(),
            name: "web-scaler".to_owned(),
            workload: workload(),
            polling_interval: Duration::from_secs(30),
            max_replicas: 100,
            paused: false,
        }));
        let scaler = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stop = CancellationToken::new();
        let addresses = (ingest.local_addr().unwrap(), scaler.local_addr().unwrap());
        let mut servers = Vec::new();
        let (served, token) = (aggregator.clone(), stop.clone());
        servers.push(tokio::spawn(async move {
            served.serve_ingest(ingest, reports, token).await;
        }));
        let (served, token) = (aggregator.clone(), stop.clone());
        servers.push(tokio::spawn(async move {
            served.serve_scaler(scaler, keda, token).await;
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

    /// Returns the value of one line of the metrics page, 0 if it is not there.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let mut registry = Registry::default();
        self.aggregator.register_metrics(&mut registry);
        let mut page = String::new();
        text::encode(&mut page, &registry).unwrap();
        let value = page.lines().find_map(|line| {
            let value = line.strip_prefix("stillwake_aggregator_")?;
            value.strip_prefix(name)?.strip_prefix(' ')
        });
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Returns the requests in flight of the one workload.
    pub(crate) fn in_flight(&self) -> u64 {
        let state = self.aggregator.debug_state();
        state["scaled_objects"][0]["in_flight"].as_u64().unwrap()
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
    pub(crate) frames: Framed<MaybeTls, FrameCodec<ReporterFrame, AggregatorFrame>>,
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
        Self::greet(rig, hello(role, uid)).await
    }

    /// Connects with a hello that is taken.
    pub(crate) async fn greet(rig: &Rig, hello: Hello) -> Self {
        let mut reporter = Self::open(rig).await;
        reporter.begin(hello).await;
        reporter
    }

    /// Says a hello that is taken.
    pub(crate) async fn begin(&mut self, hello: Hello) {
        self.send(Kind::Hello(hello)).await;
        let pace = self.hear().await;
        assert!(matches!(pace, aggregator_frame::Kind::Pace(_)), "{pace:?}");
    }

    /// Connects with a hello that may be taken or not.
    pub(crate) async fn is_taken(rig: &Rig, hello: Hello) -> bool {
        let mut reporter = Self::open(rig).await;
        let kind = Some(Kind::Hello(hello));
        // It may be hung up on before.
        reporter.frames.send(ReporterFrame { kind }).await.ok();
        matches!(within(reporter.frames.next()).await, Some(Ok(_)))
    }

    /// Connects and says nothing.
    pub(crate) async fn open(rig: &Rig) -> Self {
        Self::over(MaybeTls::Plain(
            TcpStream::connect(rig.ingest).await.unwrap(),
        ))
    }

    /// Says nothing yet on a connection.
    pub(crate) fn over(stream: MaybeTls) -> Self {
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

    /// Lets its process be that much older.
    pub(crate) fn grow(&mut self, age: Duration) {
        self.elapsed += u64::try_from(age.as_micros()).unwrap();
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
