//! Bursts, as KEDA sees them.

use std::time::Duration;

use stillwake_aggregator::{MembershipEvent, Settings};
use stillwake_proto::{
    report::Role,
    scaler::{GetMetricSpecResponse, GetMetricsRequest},
};
use tonic::{Request, Streaming};

use crate::harness::{Client, Reporter, Rig, eventually, metric, object, pod, within};

const TARGET: [(&str, &str); 1] = [("targetConcurrency", "10")];

/// One pod with its sidecar, and a client.
struct Scene {
    rig: Rig,
    sidecar: Reporter,
    client: Client,
}

impl Scene {
    async fn begin(settings: Settings) -> Self {
        let rig = Rig::synced(settings).await;
        rig.aggregator.apply(pod("a"));
        let mut sidecar = Reporter::connect(&rig, Role::Sidecar, "a").await;
        // For so long that an average is far from what is in flight now.
        sidecar.grow(Duration::from_secs(50));
        sidecar.report(5, 5).await;
        let client = rig.client().await;
        eventually(async || rig.in_flight(), |count| *count == 5).await;
        Self {
            rig,
            sidecar,
            client,
        }
    }

    async fn specs(&mut self) -> Streaming<GetMetricSpecResponse> {
        let opened = within(self.client.stream_metric_spec(object(&TARGET))).await;
        opened.unwrap().into_inner()
    }

    async fn get_specs(&mut self) -> GetMetricSpecResponse {
        let specs = within(self.client.get_metric_spec(object(&TARGET))).await;
        specs.unwrap().into_inner()
    }

    async fn concurrency(&mut self, request: impl tonic::IntoRequest<GetMetricsRequest>) -> f64 {
        let metrics = within(self.client.get_metrics(request)).await.unwrap();
        metrics.into_inner().metric_values[0].metric_value_float
    }

    fn outcome(&self, outcome: &str) -> u64 {
        let name = format!("bursts_total{{outcome=\"{outcome}\"}}");
        self.rig.metric(&name)
    }
}

/// As the HPA's, through KEDA's metrics adapter.
fn with_deadline<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(3));
    request
}

async fn next(specs: &mut Streaming<GetMetricSpecResponse>) -> GetMetricSpecResponse {
    let next = within(specs.message()).await.unwrap();
    next.expect("the stream goes on")
}

fn targets(specs: &GetMetricSpecResponse) -> (f64, i64) {
    let [spec] = &specs.metric_specs[..] else {
        panic!("one metric: {specs:?}");
    };
    (spec.target_size_float, spec.target_size)
}

#[tokio::test]
async fn a_burst_moves_the_target_everywhere_and_the_look_finds_all_of_it() {
    let mut scene = Scene::begin(Settings::default()).await;
    let mut stream = scene.specs().await;
    assert_eq!(targets(&next(&mut stream).await), (10.0, 10));
    scene.sidecar.report(80, 80).await;
    let moved = next(&mut stream).await;
    // Whole numbers are not rounded up to another target.
    assert_eq!(targets(&moved), (10.001, 10));
    assert_eq!(scene.get_specs().await, moved);

    scene.concurrency(metric("concurrency", &TARGET)).await;
    assert_eq!(scene.outcome("read"), 0, "a poll of KEDA's is no look");
    // It comes before the rise is sure, and waits for that.
    let look = with_deadline(metric("concurrency", &TARGET));
    let found = scene.concurrency(look).await;
    assert!(found >= 80.0, "{found}");
    assert_eq!(scene.outcome("read"), 1);
    let polled = scene.concurrency(metric("concurrency", &TARGET)).await;
    assert!(polled >= 80.0, "{polled}");
    let state = scene.rig.aggregator.debug_state();
    assert_eq!(state["bursts"]["spec_streams"], 1);
    assert_eq!(state["scaled_objects"][0]["burst"]["looks"], "answered");

    drop(stream);
    let streams = async || scene.rig.metric("spec_streams");
    eventually(streams, |count| *count == 0).await;
    assert_eq!(scene.get_specs().await, moved);
}

#[tokio::test]
async fn a_look_that_reads_the_activity_here_and_the_metric_elsewhere_is_seen() {
    let mut scene = Scene::begin(Settings::default()).await;
    let mut stream = scene.specs().await;
    next(&mut stream).await;
    scene.sidecar.report(80, 80).await;
    next(&mut stream).await;
    let look = with_deadline(object(&TARGET));
    within(scene.client.is_active(look)).await.unwrap();
    assert_eq!(scene.outcome("read"), 1);
}

#[tokio::test]
async fn an_aggregator_without_the_stream_answers_the_same_and_asks_for_nothing() {
    let mut asking = Scene::begin(Settings::default()).await;
    let mut other = Scene::begin(Settings::default()).await;
    let mut stream = asking.specs().await;
    next(&mut stream).await;
    for scene in [&mut asking, &mut other] {
        scene.sidecar.report(80, 80).await;
    }
    next(&mut stream).await;
    let concurrency = async || other.concurrency(metric("concurrency", &TARGET)).await;
    eventually(concurrency, |value| *value >= 80.0).await;
    assert_eq!(targets(&other.get_specs().await), (10.0, 10));
}

#[tokio::test]
async fn every_stream_of_an_object_says_the_same() {
    let mut scene = Scene::begin(Settings::default()).await;
    let (mut first, mut second) = (scene.specs().await, scene.specs().await);
    next(&mut first).await;
    next(&mut second).await;
    scene.sidecar.report(80, 80).await;
    assert_eq!(next(&mut first).await, next(&mut second).await);
}

/// Returns what a stream says in its life, in which there is a burst.
async fn said(settings: Settings, metadata: &[(&str, &str)]) -> usize {
    let age = Duration::from_millis(900);
    let mut scene = Scene::begin(Settings {
        stream_age: age..=age,
        ..settings
    })
    .await;
    let opened = within(scene.client.stream_metric_spec(object(metadata))).await;
    let mut stream = opened.unwrap().into_inner();
    scene.sidecar.report(80, 80).await;
    let mut said = 0;
    while within(stream.message()).await.unwrap().is_some() {
        said += 1;
    }
    said
}

#[tokio::test]
async fn nothing_is_asked_for_when_it_is_off_or_the_target_cannot_be_moved_so_little() {
    let off = Settings {
        bursts: false,
        ..Settings::default()
    };
    let ways = tokio::join!(
        said(Settings::default(), &TARGET),
        said(off, &TARGET),
        said(Settings::default(), &[("targetConcurrency", "0.5")]),
        said(Settings::default(), &[("targetRequestRate", "1")]),
    );
    assert_eq!(ways, (2, 1, 1, 1));
}

#[tokio::test]
async fn a_workload_of_its_most_or_paused_is_left_alone_until_that_changes() {
    let mut scene = Scene::begin(Settings::default()).await;
    let object = |max_replicas, paused| {
        MembershipEvent::ScaledObject(stillwake_aggregator::ScaledObject {
            namespace: "shop".to_owned(),
            name: "web-scaler".to_owned(),
            workload: crate::harness::workload(),
            polling_interval: Duration::from_secs(30),
            max_replicas,
            paused,
        })
    };
    scene.rig.aggregator.apply(object(1, false));
    let mut stream = scene.specs().await;
    next(&mut stream).await;
    scene.sidecar.report(80, 80).await;
    // Lasts by now.
    let concurrency = async || scene.concurrency(metric("concurrency", &TARGET)).await;
    eventually(concurrency, |value| *value >= 80.0).await;
    assert_eq!(targets(&scene.get_specs().await), (10.0, 10));
    scene.rig.aggregator.apply(object(8, true));
    assert_eq!(targets(&scene.get_specs().await), (10.0, 10));
    scene.rig.aggregator.apply(object(8, false));
    assert_eq!(targets(&next(&mut stream).await), (10.001, 10));
}
