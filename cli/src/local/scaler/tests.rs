use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use futures_util::{Stream, stream};
use parking_lot::Mutex;
use stillwake_proto::scaler::{
    GetMetricSpecResponse, GetMetricsResponse, IsActiveResponse,
    external_scaler_server::{ExternalScaler, ExternalScalerServer},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{Request, Response, transport::server::TcpIncoming};

use super::{streams::STREAM_PAUSES, *};

/// Far more than anything here takes, on a machine that does something else.
const DEADLINE: Duration = Duration::from_mins(1);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Pushes = mpsc::Sender<Result<IsActiveResponse, Status>>;
type Specs = mpsc::Sender<Result<GetMetricSpecResponse, Status>>;

/// An external scaler that says what it is told to say.
#[derive(Clone, Debug, Default)]
struct Script(Arc<Said>);

#[derive(Debug, Default)]
struct Said {
    unavailable: AtomicBool,
    active: AtomicBool,
    concurrency: AtomicU64,
    /// Calls that were answered, with an error or without.
    calls: AtomicU64,
    /// Whether it streams specs, and the other end of the last of these streams.
    streams_specs: AtomicBool,
    specs: Mutex<Option<Specs>>,
    /// Readings with a deadline, which are the HPA's, and without.
    readings: (AtomicU64, AtomicU64),
    /// Of each stream that was opened: when, and its other end.
    streams: Mutex<Vec<(Instant, Option<Pushes>)>>,
}

impl Script {
    fn answer<T>(&self, answer: T) -> Result<Response<T>, Status> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        if self.0.unavailable.load(Ordering::SeqCst) {
            return Err(Status::unavailable("not every pod has reported"));
        }
        Ok(Response::new(answer))
    }

    fn active(&self, active: bool) {
        self.0.active.store(active, Ordering::SeqCst);
    }

    fn unavailable(&self, unavailable: bool) {
        self.0.unavailable.store(unavailable, Ordering::SeqCst);
    }

    fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::SeqCst)
    }

    fn streams(&self) -> usize {
        self.0.streams.lock().len()
    }

    fn push(&self, stream: usize, answer: Result<bool, Status>) {
        let streams = self.0.streams.lock();
        let (_, pushes) = &streams[stream];
        let answer = answer.map(|result| IsActiveResponse { result });
        pushes.as_ref().unwrap().try_send(answer).unwrap();
    }

    /// Ends the stream with OK. Returns when it was opened.
    fn end(&self, stream: usize) -> Instant {
        let (opened, pushes) = &mut self.0.streams.lock()[stream];
        *pushes = None;
        *opened
    }
}

fn targeting(target: f64) -> GetMetricSpecResponse {
    GetMetricSpecResponse {
        metric_specs: vec![MetricSpec {
            metric_name: "concurrency".to_owned(),
            target_size: 10,
            target_size_float: target,
        }],
    }
}

#[tonic::async_trait]
impl ExternalScaler for Script {
    type StreamIsActiveStream = Answers<IsActiveResponse>;
    type StreamMetricSpecStream = Answers<GetMetricSpecResponse>;

    async fn is_active(
        &self,
        _: Request<ScaledObjectRef>,
    ) -> Result<Response<IsActiveResponse>, Status> {
        let result = self.0.active.load(Ordering::SeqCst);
        self.answer(IsActiveResponse { result })
    }

    async fn stream_is_active(
        &self,
        _: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let (pushes, pushed) = mpsc::channel(8);
        let opened = (Instant::now(), Some(pushes));
        self.0.streams.lock().push(opened);
        let pushed = stream::unfold(pushed, async |mut pushed| {
            Some((pushed.recv().await?, pushed))
        });
        Ok(Response::new(Box::pin(pushed)))
    }

    async fn get_metric_spec(
        &self,
        _: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        self.answer(targeting(10.0))
    }

    async fn get_metrics(
        &self,
        request: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        let (hpa, keda) = &self.0.readings;
        let reader = if request.metadata().contains_key("grpc-timeout") {
            hpa
        } else {
            keda
        };
        reader.fetch_add(1, Ordering::SeqCst);
        let concurrency = self.0.concurrency.load(Ordering::SeqCst);
        let metric_values = vec![MetricValue {
            metric_name: "concurrency".to_owned(),
            metric_value_float: concurrency as f64,
            ..MetricValue::default()
        }];
        self.answer(GetMetricsResponse { metric_values })
    }

    async fn stream_metric_spec(
        &self,
        _: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamMetricSpecStream>, Status> {
        if !self.0.streams_specs.load(Ordering::SeqCst) {
            return Err(Status::unimplemented("as scalers before KEDA 2.21"));
        }
        let (specs, streamed) = mpsc::channel(8);
        *self.0.specs.lock() = Some(specs);
        let streamed = stream::unfold(streamed, async |mut streamed| {
            Some((streamed.recv().await?, streamed))
        });
        Ok(Response::new(Box::pin(streamed)))
    }
}

/// A scaler that asks a script.
struct Stage {
    script: Script,
    desired: watch::Receiver<u32>,
    view: watch::Receiver<View>,
    stop: CancellationToken,
    scaler: JoinHandle<()>,
    _replicas: watch::Sender<supervisor::View>,
}

/// Polls and syncs at these intervals; the cooldown is next to nothing.
async fn stage(script: Script, polling_interval: Duration, sync_period: Duration) -> Stage {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let server = tonic::transport::Server::builder()
        .add_service(ExternalScalerServer::new(script.clone()))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener), stop.clone().cancelled_owned());
    tokio::spawn(server);
    let settings = Settings {
        scaled_object: ScaledObjectRef::default(),
        keda: keda::Settings {
            min: 0,
            max: 4,
            cooldown: Duration::from_millis(1),
            initial_cooldown: Duration::ZERO,
        },
        hpa: hpa::Settings {
            min: 1,
            max: 4,
            tolerance: 0.1,
            stabilization: Duration::ZERO,
            scale_up: hpa::ScaleUp {
                pods: 4,
                percent: 100,
                period: Duration::from_secs(15),
            },
        },
        polling_interval,
        sync_period,
    };
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect_lazy();
    let (replicas, shown) = watch::channel(supervisor::View::default());
    let (desired, wanted) = watch::channel(0);
    let (shows, view) = watch::channel(View::default());
    let scaler = Scaler::new(settings, channel, shown, desired, shows, Metrics::default());
    Stage {
        script,
        desired: wanted,
        view,
        scaler: tokio::spawn(scaler.run(stop.clone())),
        stop,
        _replicas: replicas,
    }
}

impl Stage {
    async fn until_desired(&mut self, replicas: u32) {
        let reached = self.desired.wait_for(|desired| *desired == replicas);
        let reached = tokio::time::timeout(DEADLINE, reached).await;
        reached.expect("not in time").unwrap();
    }

    async fn until(&self, what: &str, good: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !good(self) {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until the script has answered so many more calls than now.
    async fn further_calls(&self, count: u64) {
        let before = self.script.calls();
        self.until("it was asked again", |stage| {
            stage.script.calls() >= before + count
        })
        .await;
    }

    async fn end(self) {
        self.stop.cancel();
        self.scaler.await.unwrap();
    }
}

const OFTEN: Duration = Duration::from_millis(20);
const NEVER_AGAIN: Duration = Duration::from_hours(24);

#[tokio::test]
async fn errors_keep_the_replicas_until_an_answer_takes_them_away() {
    let script = Script::default();
    script.active(true);
    script.0.concurrency.store(30, Ordering::SeqCst);
    let mut stage = stage(script.clone(), OFTEN, OFTEN).await;
    stage.until_desired(3).await;

    script.unavailable(true);
    script.active(false);
    script.0.concurrency.store(0, Ordering::SeqCst);
    let failed = |stage: &Stage| stage.view.borrow().last_error.is_some();
    stage.until("it failed", failed).await;
    stage.further_calls(10).await;
    assert_eq!(*stage.desired.borrow(), 3);
    let error = stage.view.borrow().last_error.clone().unwrap_or_default();
    assert!(error.contains("not every pod has reported"), "{error}");

    script.unavailable(false);
    stage.until_desired(0).await;
    stage
        .until("it is well again", |stage| !failed(stage))
        .await;
    stage.end().await;
}

#[tokio::test]
async fn a_pushed_true_wakes_without_a_poll_and_a_pushed_false_does_nothing() {
    let script = Script::default();
    let mut stage = stage(script.clone(), NEVER_AGAIN, NEVER_AGAIN).await;
    let polled = |stage: &Stage| stage.view.borrow().active == Some(false);
    stage.until("it polled the one time", polled).await;
    stage
        .until("the stream is open", |stage| stage.script.streams() == 1)
        .await;

    script.push(0, Ok(true));
    stage.until_desired(1).await;
    assert!(stage.view.borrow().woken.is_some_and(|woken| woken.pushed));

    // What comes after it tells that it was read.
    script.push(0, Ok(false));
    let before = stage.view.borrow().last_active;
    script.push(0, Ok(true));
    let again = |stage: &Stage| stage.view.borrow().last_active != before;
    stage.until("the second true is heard", again).await;
    assert_eq!(*stage.desired.borrow(), 1);
    stage.end().await;
}

#[tokio::test]
async fn a_stream_that_ended_with_ok_is_opened_again_after_the_first_pause() {
    let script = Script::default();
    let mut stage = stage(script.clone(), NEVER_AGAIN, NEVER_AGAIN).await;
    stage
        .until("the stream is open", |stage| stage.script.streams() == 1)
        .await;
    let opened = script.end(0);
    stage
        .until("it is open again", |stage| stage.script.streams() == 2)
        .await;
    let (first, _) = STREAM_PAUSES;
    let again = script.0.streams.lock()[1].0;
    assert!(again - opened >= first);
    script.push(1, Ok(true));
    stage.until_desired(1).await;
    stage.end().await;
}

#[tokio::test]
async fn a_target_that_moves_on_the_stream_makes_the_hpa_look_at_once_and_the_same_one_does_not() {
    let script = Script::default();
    script.0.streams_specs.store(true, Ordering::SeqCst);
    script.0.concurrency.store(30, Ordering::SeqCst);
    let mut stage = stage(script.clone(), NEVER_AGAIN, NEVER_AGAIN).await;
    let open = |stage: &Stage| stage.script.0.specs.lock().is_some() && stage.script.streams() == 1;
    stage.until("both streams are open", open).await;
    let polled = |stage: &Stage| stage.view.borrow().active == Some(false);
    stage.until("it polled the one time", polled).await;
    script.push(0, Ok(true));
    stage.until_desired(1).await;

    let say = |target| {
        let specs = script.0.specs.lock().clone().unwrap();
        specs.try_send(Ok(targeting(target))).unwrap();
    };
    let looks = || script.0.readings.0.load(Ordering::SeqCst);
    // The first tells what is known, and one more time the same is nothing new.
    say(10.0);
    say(10.0);
    // What comes after them tells that they were read.
    say(10.001);
    stage.until_desired(3).await;
    assert_eq!(looks(), 1);
    let shown = stage.view.borrow().metrics.clone();
    assert_eq!(shown, [("concurrency".to_owned(), 10.001, Some(30.0))]);
    script.0.concurrency.store(40, Ordering::SeqCst);
    say(10.0);
    stage.until_desired(4).await;
    assert_eq!(looks(), 2);
    // What was streamed is not asked for; one poll was before.
    assert_eq!(script.0.readings.1.load(Ordering::SeqCst), 1);
    stage.end().await;
}

#[test]
fn the_floating_point_fields_win_and_nonsense_is_zero() {
    let spec = |target_size, target_size_float| MetricSpec {
        metric_name: "concurrency".into(),
        target_size,
        target_size_float,
    };
    let same = |one: f64, other: f64| assert!((one - other).abs() < 1e-9, "{one} {other}");
    same(target(&spec(5, 0.0)), 5.0);
    same(target(&spec(5, 2.50049)), 2.5);
    let reading = |metric_value, metric_value_float| MetricValue {
        metric_name: "concurrency".into(),
        metric_value,
        metric_value_float,
    };
    same(value(&reading(5, 0.0)), 5.0);
    same(value(&reading(5, 0.5)), 0.5);
    same(value(&reading(-5, f64::NAN)), 0.0);
    same(value(&reading(0, f64::INFINITY)), 0.0);
}
