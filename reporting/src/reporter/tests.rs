//! The reporter against aggregators scripted on loopback sockets.

use std::io::Write as _;

use futures_util::{SinkExt as _, StreamExt as _};
use stillwake_proto::{
    frame::FrameCodec,
    report::{AggregatorFrame, Hello, ReporterFrame, aggregator_frame, reporter_frame::Kind},
};
use stillwake_runtime::tls::{Acceptor, MaybeTls};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tokio_util::codec::Framed;

use super::*;
use crate::{
    names::scripted::NameServer,
    scripted::{Scripted, told},
};

mod tls;

/// Far longer than anything here takes; reached only when something is broken.
const PATIENCE: Duration = Duration::from_secs(20);

struct Aggregator {
    listener: TcpListener,
    address: SocketAddr,
    acceptor: Acceptor,
}

struct Told {
    frames: Framed<MaybeTls, FrameCodec<AggregatorFrame, ReporterFrame>>,
    hello: Hello,
}

impl Aggregator {
    async fn start() -> Self {
        Self::start_on(([127, 0, 0, 1], 0).into()).await
    }

    async fn start_on(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        Self {
            listener,
            address,
            acceptor: Acceptor::plaintext(),
        }
    }

    /// Returns the next connection, or why it is none.
    async fn accept(&self) -> std::io::Result<MaybeTls> {
        let accepted = timeout(PATIENCE, self.listener.accept()).await;
        let (stream, _) = accepted.expect("nobody connects").unwrap();
        self.acceptor.accept(stream).await
    }

    /// Returns the next connection, its hello heard.
    async fn connection(&self) -> Told {
        let stream = self.accept().await.unwrap();
        let mut frames = Framed::new(stream, FrameCodec::default());
        let Some(Kind::Hello(hello)) = next(&mut frames).await else {
            panic!("the first frame is no hello");
        };
        Told { frames, hello }
    }
}

async fn next(
    frames: &mut Framed<MaybeTls, FrameCodec<AggregatorFrame, ReporterFrame>>,
) -> Option<Kind> {
    let frame = timeout(PATIENCE, frames.next()).await;
    frame.expect("nothing comes")?.unwrap().kind
}

impl Told {
    async fn report(&mut self) -> (u64, bool) {
        told(&next(&mut self.frames).await.expect("no report"))
    }

    /// Reads on until a report says `requests`.
    async fn until(&mut self, requests: u64) {
        while self.report().await.0 != requests {}
    }
}

struct Running {
    source: Arc<Scripted>,
    status: Status,
    endpoints: mpsc::Receiver<Endpoint>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(config: ReportingConfig, change: impl FnOnce(&mut Reporter)) -> Self {
        let source = Scripted::new(2);
        let mut reporter = Reporter::new(config, Arc::<Scripted>::clone(&source));
        change(&mut reporter);
        let stop = CancellationToken::new();
        let (sender, endpoints) = mpsc::channel(4);
        Self {
            source,
            status: reporter.status(),
            endpoints,
            stop: stop.clone(),
            task: tokio::spawn(reporter.run(sender, stop)),
        }
    }

    async fn status_becomes(&self, holds: impl Fn(&Status) -> bool) {
        let polled = async {
            while !holds(&self.status) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let status = &self.status;
        timeout(PATIENCE, polled)
            .await
            .unwrap_or_else(|_| panic!("the status stays {status:?}"));
    }

    async fn stop(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task)
            .await
            .expect("does not stop")
            .unwrap();
    }
}

fn config(aggregators: &[&Aggregator]) -> ReportingConfig {
    let names = aggregators
        .iter()
        .map(|aggregator| aggregator.address.to_string());
    let hello = Hello {
        epoch: 7,
        ..Hello::default()
    };
    ReportingConfig::new(names.collect(), hello)
}

#[tokio::test]
async fn after_a_lost_connection_everything_is_said_again() {
    let aggregator = Aggregator::start().await;
    let running = Running::start(config(&[&aggregator]), |_| {});
    let mut first = aggregator.connection().await;
    assert_eq!(first.report().await, (2, true));
    running.source.edge(5);
    first.until(5).await;
    drop(first);
    let mut second = aggregator.connection().await;
    assert_eq!(second.hello.epoch, 7);
    assert_eq!(second.report().await, (5, true));
    let totals = running.status.totals();
    assert_eq!((totals.connections, totals.failures), (2, 1));
    drop(second);
    running.stop().await;
}

#[tokio::test]
async fn every_aggregator_is_told_and_hears_the_last_report() {
    let (left, right) = (Aggregator::start().await, Aggregator::start().await);
    let running = Running::start(config(&[&left, &right]), |_| {});
    let (mut left, mut right) = tokio::join!(left.connection(), right.connection());
    running
        .status_becomes(|status| status.connected() == 2)
        .await;
    running.source.edge(3);
    left.until(3).await;
    right.until(3).await;
    running.source.set(8);
    let heard = async move {
        left.until(8).await;
        right.until(8).await;
        assert_eq!(next(&mut left.frames).await, None);
        assert_eq!(next(&mut right.frames).await, None);
    };
    tokio::join!(running.stop(), heard);
}

#[tokio::test]
async fn an_aggregator_that_is_away_holds_up_no_other() {
    let (gone, here) = (Aggregator::start().await, Aggregator::start().await);
    let config = config(&[&gone, &here]);
    drop(gone);
    let running = Running::start(config, |_| {});
    assert_eq!(here.connection().await.report().await, (2, true));
    running
        .status_becomes(|status| {
            let addresses = status.addresses();
            addresses.iter().any(|address| {
                let error = address.last_error.as_deref();
                error.is_some_and(|error| error.contains("refused"))
            })
        })
        .await;
    running.stop().await;
}

#[tokio::test]
async fn endpoints_are_passed_on() {
    let aggregator = Aggregator::start().await;
    let mut running = Running::start(config(&[&aggregator]), |_| {});
    let mut connection = aggregator.connection().await;
    let endpoint = Endpoint {
        uid: "pod".to_owned(),
        ready: true,
        ..Endpoint::default()
    };
    let kind = Some(aggregator_frame::Kind::Endpoint(endpoint.clone()));
    connection
        .frames
        .send(AggregatorFrame { kind })
        .await
        .unwrap();
    let heard = timeout(PATIENCE, running.endpoints.recv()).await.unwrap();
    assert_eq!(heard, Some(endpoint));
    drop(connection);
    running.stop().await;
}

#[tokio::test]
async fn the_token_is_read_again_for_each_connection() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "first").unwrap();
    let aggregator = Aggregator::start().await;
    let mut config = config(&[&aggregator]);
    config.token_file = Some(file.path().to_owned());
    let running = Running::start(config, |_| {});
    let connection = aggregator.connection().await;
    assert_eq!(connection.hello.token, "first");
    std::fs::write(file.path(), "second").unwrap();
    drop(connection);
    assert_eq!(aggregator.connection().await.hello.token, "second");
    drop(file);
    running
        .status_becomes(|status| {
            let error = status.addresses()[0].last_error.clone();
            error.is_some_and(|error| error.contains("token file"))
        })
        .await;
    running.stop().await;
}

#[tokio::test]
async fn connections_follow_what_the_names_resolve_to() {
    let one = Aggregator::start().await;
    let port = one.address.port();
    let other = Aggregator::start_on(([127, 0, 0, 2], port).into()).await;
    let server = NameServer::start().await;
    server.set("reports.test.", &["127.0.0.1", "127.0.0.2"]);
    let mut config = config(&[]);
    config.aggregators = vec![format!("reports.test:{port}")];
    config.resolve_interval = Duration::from_millis(5);
    let asked = server.clone();
    let running = Running::start(config, move |reporter| {
        reporter.lookup = Box::new(move |name| {
            let machine = asked.machine("", "");
            assert_eq!(name, format!("reports.test:{port}"));
            Box::pin(async move {
                let found = machine.addresses("reports.test").await?;
                let found = found.into_iter().map(|address| (address, port).into());
                Ok(found.collect())
            })
        });
    });
    let (mut first, mut second) = tokio::join!(one.connection(), other.connection());
    assert_eq!(first.report().await, (2, true));
    assert_eq!(second.report().await, (2, true));

    // An aggregator does not move because a name server knows nothing of it.
    server.forget("reports.test.");
    running
        .status_becomes(|status| !status.unresolved().is_empty())
        .await;
    running.source.edge(3);
    first.until(3).await;
    second.until(3).await;

    server.set("reports.test.", &["127.0.0.2"]);
    while next(&mut first.frames).await.is_some() {}
    drop(first);
    running
        .status_becomes(|status| {
            let addresses = status.addresses();
            let kept = addresses.iter().map(|status| status.address);
            kept.eq([other.address]) && status.unresolved().is_empty()
        })
        .await;
    running.source.edge(5);
    second.until(5).await;
    drop(second);
    running.stop().await;
}

#[tokio::test]
async fn a_name_whose_lookup_hangs_holds_up_no_other() {
    let aggregator = Aggregator::start().await;
    let mut config = config(&[&aggregator]);
    config.aggregators.insert(0, "hangs:1".to_owned());
    let running = Running::start(config, |reporter| {
        reporter.lookup = Box::new(|_| Box::pin(std::future::pending()));
    });
    assert_eq!(aggregator.connection().await.report().await, (2, true));
    running.stop().await;
}

#[tokio::test]
async fn without_an_aggregator_it_waits_to_be_stopped() {
    let running = Running::start(config(&[]), |_| {});
    assert_eq!(running.status.addresses(), []);
    running.stop().await;
}
