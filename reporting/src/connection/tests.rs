//! One connection over a pipe, in paused time, so that what is sent and when is exact.

use std::future::pending;

use stillwake_proto::report::Pace;
use tokio::{io::DuplexStream, task::JoinHandle, time::error::Elapsed};

use super::*;
use crate::{
    Status,
    scripted::{Scripted, told},
};

type AggregatorCodec = FrameCodec<AggregatorFrame, ReporterFrame>;

/// The aggregator's end, and what the reporter's end is made of.
struct Pipe {
    reports: FramedRead<tokio::io::ReadHalf<DuplexStream>, AggregatorCodec>,
    orders: FramedWrite<tokio::io::WriteHalf<DuplexStream>, AggregatorCodec>,
    endpoints: mpsc::Receiver<Endpoint>,
    source: Arc<Scripted>,
    stop: CancellationToken,
    conversation: JoinHandle<Result<(), ConnectionError>>,
}

impl Pipe {
    /// Begins a conversation whose pipe holds `capacity` bytes.
    fn open(capacity: usize) -> Self {
        let (near, far) = tokio::io::duplex(capacity);
        let source = Scripted::new(0);
        let (endpoints, heard) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let address = ([127, 0, 0, 1], 1).into();
        let hello = Hello {
            epoch: 7,
            ..Hello::default()
        };
        let connection = Connection {
            address,
            host: "localhost".to_owned(),
            config: Arc::new(ReportingConfig::new(Vec::new(), hello)),
            source: Arc::<Scripted>::clone(&source),
            endpoints,
            entry: Status::default().entry(address),
            stop: stop.clone(),
        };
        let conversation = tokio::spawn(async move {
            let hello = connection.hello()?;
            let (reading, writing) = tokio::io::split(near);
            connection.converse(reading, writing, hello).await
        });
        let (reading, writing) = tokio::io::split(far);
        Self {
            reports: FramedRead::new(reading, AggregatorCodec::default()),
            orders: FramedWrite::new(writing, AggregatorCodec::default()),
            endpoints: heard,
            source,
            stop,
            conversation,
        }
    }

    /// Begins a conversation of which the hello and the first report have been heard.
    async fn greeted() -> Self {
        let mut pipe = Self::open(1024);
        assert!(matches!(pipe.frame().await, Kind::Hello(_)));
        assert_eq!(told(&pipe.frame().await), (0, true));
        pipe
    }

    async fn frame(&mut self) -> Kind {
        self.reports.next().await.unwrap().unwrap().kind.unwrap()
    }

    /// Returns the next report and how long it took to come.
    async fn next(&mut self) -> (u64, Duration) {
        let began = Instant::now();
        let (requests, _) = told(&self.frame().await);
        (requests, began.elapsed())
    }

    async fn order(&mut self, kind: aggregator_frame::Kind) {
        let frame = AggregatorFrame { kind: Some(kind) };
        self.orders.send(frame).await.unwrap();
    }

    /// Lets the reporter see what has been sent to it, without time passing for its schedule to act on.
    async fn settle() -> Result<(), Elapsed> {
        timeout(Duration::from_millis(1), pending()).await
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn milliseconds(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[tokio::test(start_paused = true)]
async fn the_hello_comes_first_and_the_first_report_at_once() {
    let began = Instant::now();
    let mut pipe = Pipe::open(1024);
    let Kind::Hello(hello) = pipe.frame().await else {
        panic!("the first frame is no hello");
    };
    assert_eq!((hello.version, hello.epoch), (REPORT_VERSION, 7));
    assert_eq!(told(&pipe.frame().await), (0, true));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_edge_is_reported_at_once() {
    let mut pipe = Pipe::greeted().await;
    sleep(seconds(3)).await;
    pipe.source.edge(1);
    assert_eq!(pipe.next().await, (1, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn edges_within_the_gap_are_reported_once_with_the_last_state() {
    let mut pipe = Pipe::greeted().await;
    for requests in 1..=4 {
        pipe.source.edge(requests);
        sleep(milliseconds(10)).await;
    }
    assert_eq!(pipe.next().await, (4, milliseconds(10)));
    assert_eq!(pipe.next().await, (4, seconds(10)));
}

#[tokio::test(start_paused = true)]
async fn reports_come_every_second_while_busy_and_every_ten_otherwise() {
    let mut pipe = Pipe::greeted().await;
    pipe.source.set(3);
    assert_eq!(pipe.next().await, (3, seconds(10)));
    for sooner in [100, 200, 400, 800] {
        assert_eq!(pipe.next().await, (3, milliseconds(sooner)));
    }
    assert_eq!(pipe.next().await, (3, seconds(1)));
    assert_eq!(pipe.next().await, (3, seconds(1)));
    pipe.source.set(4);
    assert_eq!(pipe.next().await, (4, seconds(1)));
    assert_eq!(pipe.next().await, (4, seconds(10)));
}

#[tokio::test(start_paused = true)]
async fn the_pace_that_the_aggregator_asks_for_is_kept() {
    let mut pipe = Pipe::greeted().await;
    let pace = Pace {
        busy: 3000,
        idle: 20_000,
    };
    pipe.order(aggregator_frame::Kind::Pace(pace)).await;
    assert_eq!(pipe.next().await, (0, seconds(20)));
    pipe.source.edge(1);
    assert_eq!(pipe.next().await, (1, milliseconds(50)));
    for sooner in [50, 100, 200, 400, 800, 1600] {
        assert_eq!(pipe.next().await, (1, milliseconds(sooner)));
    }
    assert_eq!(pipe.next().await, (1, seconds(3)));
    assert_eq!(pipe.next().await, (1, seconds(3)));
}

#[tokio::test(start_paused = true)]
async fn endpoints_that_nobody_takes_hold_up_no_report() {
    let mut pipe = Pipe::greeted().await;
    for uid in ["a", "b", "c"] {
        let endpoint = Endpoint {
            uid: uid.to_owned(),
            ..Endpoint::default()
        };
        pipe.order(aggregator_frame::Kind::Endpoint(endpoint)).await;
    }
    assert!(Pipe::settle().await.is_err());
    pipe.source.edge(1);
    assert_eq!(pipe.next().await.0, 1);
    for uid in ["a", "b", "c"] {
        assert_eq!(pipe.endpoints.recv().await.unwrap().uid, uid);
    }
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_it_sends_one_last_report_and_closes() {
    let mut pipe = Pipe::greeted().await;
    pipe.source.set(9);
    pipe.stop.cancel();
    assert_eq!(pipe.next().await, (9, Duration::ZERO));
    assert!(pipe.reports.next().await.is_none());
    drop(pipe.orders);
    drop(pipe.reports);
    pipe.conversation.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_aggregator_that_stops_reading_is_given_up() {
    let pipe = Pipe::open(4);
    let error = pipe.conversation.await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectionError::SendLimit), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_cannot_be_read_ends_the_connection() {
    let mut pipe = Pipe::greeted().await;
    let writing = pipe.orders.get_mut();
    writing.write_all(&[0, 0, 0, 1, 0xff]).await.unwrap();
    let error = pipe.conversation.await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectionError::Receive(_)), "{error}");
}
