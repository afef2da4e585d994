//! An aggregator that comes back with empty memory, and sidecars that report over TLS with their tokens as they do in
//! a cluster.

use std::{io::Write as _, sync::Arc, time::Duration};

use jiff::Timestamp;
use stillwake_aggregator::{Aggregator, MembershipEvent, PodTokens, Settings};
use stillwake_certs::{
    authority::Authority,
    leaf::{LeafRequest, Purpose},
    resolver::Resolver,
    server::acceptor,
};
use stillwake_proto::report::{Count, PodReport, Role, reporter_frame::Kind};
use stillwake_reporting::{
    Report, Reporter, ReportingConfig, Session, Source, microseconds, random_epoch,
};
use stillwake_runtime::{
    accept::bind,
    tls::{Acceptor, Trust},
};
use tempfile::NamedTempFile;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::{
    harness::{Rig, eventually, hello, metric, pod, within},
    tokens::{ApiServer, claims},
};

const NAME: &str = "localhost";
const SIDECARS: u64 = 20;

/// How soon after its start an aggregator has to have the right numbers.
const BACK: Duration = Duration::from_secs(10);

/// Serves a number of requests that never ends and never changes.
struct Steady {
    began: Instant,
    in_flight: u64,
    edges: watch::Sender<u64>,
}

impl Source for Steady {
    fn session(&self) -> Box<dyn Session> {
        Box::new(SteadySession {
            began: self.began,
            in_flight: self.in_flight,
        })
    }

    fn edges(&self) -> watch::Receiver<u64> {
        self.edges.subscribe()
    }
}

struct SteadySession {
    began: Instant,
    in_flight: u64,
}

impl Session for SteadySession {
    fn report(&mut self) -> Report {
        let elapsed = microseconds(self.began.elapsed());
        let count = Count {
            in_flight: self.in_flight,
            in_flight_time: self.in_flight * elapsed,
            requests: self.in_flight,
        };
        let report = PodReport {
            elapsed,
            count: Some(count),
            app_ready: true,
            draining: false,
        };
        Report {
            kind: Kind::Pod(report),
            requests: 1,
        }
    }
}

/// A sidecar's reporting, until it is dropped.
struct Sidecar {
    stop: CancellationToken,
    task: JoinHandle<()>,
    _token: NamedTempFile,
}

impl Sidecar {
    fn begin(uid: &str, in_flight: u64, port: u16, server: &ApiServer, trust: Trust) -> Self {
        let mut token = NamedTempFile::new().unwrap();
        let text = server.sign(&claims("shop", "default", uid));
        token.write_all(text.as_bytes()).unwrap();
        let mut hello = hello(Role::Sidecar, uid);
        hello.epoch = random_epoch();
        let mut config = ReportingConfig::new(vec![format!("{NAME}:{port}")], hello);
        config.token_file = Some(token.path().to_owned());
        config.trust = Some(trust);
        let source = Steady {
            began: Instant::now(),
            in_flight,
            edges: watch::Sender::default(),
        };
        let reporter = Reporter::new(config, Arc::new(source));
        let stop = CancellationToken::new();
        let (endpoints, _) = mpsc::channel(1);
        let task = tokio::spawn(reporter.run(endpoints, stop.clone()));
        Self {
            stop,
            task,
            _token: token,
        }
    }
}

/// An aggregator on a port for reports, that knows of all pods and is not synced.
async fn aggregator(port: u16, tokens: PodTokens, reports: Acceptor) -> Rig {
    let listener = bind("reports", ([127, 0, 0, 1], port).into()).unwrap();
    let aggregator = Aggregator::with_identity(Settings::default(), tokens);
    let rig = Rig::serve_on(listener, aggregator, reports, Acceptor::plaintext()).await;
    for number in 0..SIDECARS {
        rig.aggregator.apply(pod(&number.to_string()));
    }
    rig
}

#[tokio::test]
async fn an_aggregator_that_comes_back_says_nothing_until_it_has_the_right_numbers_again() {
    let server = ApiServer::new("one");
    let authority = Authority::create(Duration::from_hours(24), Timestamp::now()).unwrap();
    let names = [NAME.to_owned()];
    let request = LeafRequest::new(names, Purpose::Server, Duration::from_hours(1)).unwrap();
    let leaf = authority.issue(&request, Timestamp::now()).unwrap();
    let resolver = Arc::new(Resolver::new(&leaf).unwrap());
    let reports = acceptor(resolver, None, &[], true).unwrap();
    let trust = Trust::from_pem(authority.certificate_pem()).unwrap();

    let first = aggregator(0, server.verifier(), reports.clone()).await;
    let port = first.ingest.port();
    first.aggregator.apply(MembershipEvent::Synced);
    let sidecars: Vec<_> = (0..SIDECARS)
        .map(|number| {
            let uid = number.to_string();
            Sidecar::begin(&uid, number + 1, port, &server, trust.clone())
        })
        .collect();
    let all = (1..=SIDECARS).sum::<u64>();
    eventually(async || first.in_flight(), |count| *count == all).await;
    first.stop.cancel();
    first.ended().await;

    let second = aggregator(port, server.verifier(), reports).await;
    let began = Instant::now();
    let mut client = second.client().await;
    let mut ask = async || within(client.get_metrics(metric("concurrency", &[]))).await;
    let unknown = ask().await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unavailable);
    second.aggregator.apply(MembershipEvent::Synced);
    // Blind is not zero, and not half: whatever is answered is all of it.
    let comes_back = async {
        loop {
            match ask().await {
                Ok(answer) => return answer.into_inner().metric_values[0].metric_value_float,
                Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
            }
            tokio::task::yield_now().await;
        }
    };
    let concurrency = timeout(BACK, comes_back).await;
    let concurrency = concurrency.expect("the numbers are not back in time");
    let expected = all as f64;
    assert!(
        (concurrency - expected).abs() < 0.01 * expected,
        "{concurrency} after {:?}",
        began.elapsed()
    );
    assert_eq!(second.in_flight(), all);
    for sidecar in sidecars {
        sidecar.stop.cancel();
        within(sidecar.task).await.unwrap();
    }
}
