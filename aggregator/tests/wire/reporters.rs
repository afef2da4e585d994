//! The reporters' side, and what an operator sees.

use std::time::Duration;

use prometheus_client::{encoding::text, registry::Registry};
use stillwake_aggregator::{
    Aggregator, Denied, Identify, Identity, MembershipEvent, Notice, Pod, Settings, TokenError,
    TrustHello,
};
use stillwake_proto::report::{Endpoint, Hello, Role, aggregator_frame, reporter_frame::Kind};
use stillwake_runtime::{readiness::Readiness, tls::Acceptor};
use tokio::{io::AsyncWriteExt as _, net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::harness::{Reporter, Rig, eventually, hello, pod, within, workload};

async fn endpoint(reporter: &mut Reporter) -> Endpoint {
    match reporter.hear().await {
        aggregator_frame::Kind::Endpoint(endpoint) => endpoint,
        pace @ aggregator_frame::Kind::Pace(_) => panic!("{pace:?} instead of an endpoint"),
    }
}

fn connected(rig: &Rig, role: &str) -> u64 {
    rig.aggregator.debug_state()["connected"][role]
        .as_u64()
        .unwrap()
}

#[tokio::test]
async fn an_activator_hears_of_pods_that_come_and_go() {
    let rig = Rig::synced(Settings::default()).await;
    rig.aggregator.apply(pod("a"));
    let mut activator = Reporter::connect(&rig, Role::Activator, "act").await;
    activator.hold(1, 1).await;
    let mut sidecar = Reporter::connect(&rig, Role::Sidecar, "a").await;
    sidecar.report(0, 0).await;
    let told = endpoint(&mut activator).await;
    assert_eq!((told.uid.as_str(), told.ready), ("a", true));
    assert_eq!(told.address, "127.0.0.1");

    let mut second = Reporter::connect(&rig, Role::Activator, "act2").await;
    second.hold(0, 0).await;
    assert_eq!(endpoint(&mut second).await, told);

    rig.aggregator.apply(MembershipEvent::PodGone {
        uid: "a".to_owned(),
    });
    assert!(!endpoint(&mut activator).await.ready);
    assert!(!endpoint(&mut second).await.ready);
}

#[tokio::test]
async fn a_first_frame_that_is_no_valid_hello_ends_the_connection() {
    let rig = Rig::synced(Settings::default()).await;
    let mut old = Reporter::open(&rig).await;
    let version = Hello {
        version: 99,
        ..hello(Role::Sidecar, "a")
    };
    old.send(Kind::Hello(version)).await;
    old.closed().await;
    let mut rude = Reporter::open(&rig).await;
    rude.report(0, 0).await;
    rude.closed().await;
    let mut garbage = Reporter::open(&rig).await;
    let stream = garbage.frames.get_mut();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    garbage.closed().await;
    assert_eq!(connected(&rig, "sidecars"), 0);
}

#[tokio::test]
async fn a_reporter_that_says_nothing_is_hung_up_on() {
    let rig = Rig::synced(Settings {
        hello_timeout: Duration::from_millis(20),
        ..Settings::default()
    })
    .await;
    let mut silent = Reporter::open(&rig).await;
    silent.closed().await;
}

#[tokio::test]
async fn a_frame_above_a_sidecars_size_ends_its_connection() {
    let rig = Rig::synced(Settings::default()).await;
    let mut sidecar = Reporter::connect(&rig, Role::Sidecar, "a").await;
    let long = Hello {
        token: "x".repeat(20_000),
        ..hello(Role::Sidecar, "a")
    };
    sidecar.send(Kind::Hello(long)).await;
    sidecar.closed().await;
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed_and_a_place_that_is_left_is_given_again() {
    let rig = Rig::synced(Settings {
        max_connections: 1,
        ..Settings::default()
    })
    .await;
    let first = Reporter::connect(&rig, Role::Sidecar, "a").await;
    assert!(!Reporter::is_taken(&rig, hello(Role::Sidecar, "b")).await);
    drop(first);
    eventually(async || connected(&rig, "sidecars"), |count| *count == 0).await;
    let place = async || Reporter::is_taken(&rig, hello(Role::Sidecar, "b")).await;
    eventually(place, |is_served| *is_served).await;
}

#[tokio::test]
async fn the_same_reporter_again_replaces_its_older_connection() {
    let rig = Rig::synced(Settings::default()).await;
    let mut first = Reporter::connect(&rig, Role::Sidecar, "a").await;
    let _second = Reporter::connect(&rig, Role::Sidecar, "a").await;
    first.closed().await;
    assert_eq!(connected(&rig, "sidecars"), 1);
}

#[tokio::test]
async fn stopping_closes_every_connection_and_returns() {
    let rig = Rig::synced(Settings::default()).await;
    let mut sidecar = Reporter::connect(&rig, Role::Sidecar, "a").await;
    rig.stop.cancel();
    sidecar.closed().await;
    rig.ended().await;
}

#[tokio::test]
async fn the_one_who_identifies_has_the_last_word() {
    /// Knows one pod only.
    #[derive(Debug)]
    struct OnlyA;
    impl Identify for OnlyA {
        fn identify(&self, hello: &Hello) -> Result<Identity, Denied> {
            if hello.uid == "a" {
                TrustHello.identify(hello)
            } else {
                Err(Denied::Token(TokenError::NotOfPod))
            }
        }
    }
    let aggregator = Aggregator::with_identity(Settings::default(), OnlyA);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut rig = Rig::synced(Settings::default()).await;
    rig.ingest = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let served = aggregator.clone();
    let token = stop.clone();
    let server = tokio::spawn(async move {
        served
            .serve_ingest(listener, Acceptor::plaintext(), token)
            .await;
    });
    Reporter::connect(&rig, Role::Sidecar, "a").await;
    let mut stranger = Reporter::open(&rig).await;
    stranger.send(Kind::Hello(hello(Role::Sidecar, "b"))).await;
    stranger.closed().await;
    stop.cancel();
    within(server).await.unwrap();
}

#[tokio::test]
async fn metrics_and_the_debug_state_tell_what_is_going_on() {
    let rig = Rig::synced(Settings::default()).await;
    let mut registry = Registry::default();
    rig.aggregator.register_metrics(&mut registry);
    rig.aggregator.apply(pod("a"));
    let mut sidecar = Reporter::connect(&rig, Role::Sidecar, "a").await;
    let mut activator = Reporter::connect(&rig, Role::Activator, "act").await;
    sidecar.report(3, 3).await;
    activator.hold(2, 2).await;
    rig.client()
        .await
        .is_active(crate::harness::object(&[]))
        .await
        .ok();
    let state = eventually(
        async || rig.aggregator.debug_state(),
        |state| {
            let object = &state["scaled_objects"][0];
            object["in_flight"] == 3 && object["held"] == 2
        },
    )
    .await;
    let object = &state["scaled_objects"][0];
    assert_eq!(state["synced"], true);
    assert_eq!(object["namespace"], "shop");
    assert_eq!(object["name"], "web-scaler");
    assert_eq!(object["workload"], "shop/Deployment/web");
    assert_eq!(object["active"], true);
    assert_eq!(object["known"], true);
    assert_eq!(object["ready_endpoints"], 1);
    assert_eq!(state["reporters"].as_array().unwrap().len(), 2);

    let mut page = String::new();
    text::encode(&mut page, &registry).unwrap();
    let labels = "{namespace=\"shop\",scaled_object=\"web-scaler\"}";
    for line in [
        "stillwake_aggregator_reports_total 2".to_owned(),
        "stillwake_aggregator_reporters{role=\"sidecar\"} 1".to_owned(),
        "stillwake_aggregator_reporters{role=\"activator\"} 1".to_owned(),
        "stillwake_aggregator_calls_total{method=\"IsActive\",code=".to_owned(),
        format!("stillwake_aggregator_in_flight_requests{labels} 3"),
        format!("stillwake_aggregator_held_requests{labels} 2"),
        format!("stillwake_aggregator_unknown_pods{labels} 0"),
    ] {
        assert!(page.contains(&line), "{line} is missing from:\n{page}");
    }
}

#[tokio::test(start_paused = true)]
async fn pods_without_a_sidecar_are_told_counted_and_named() {
    let rig = Rig::synced(Settings {
        grace: Duration::ZERO,
        ..Settings::default()
    })
    .await;
    let mut waits = Box::pin(rig.aggregator.notices());
    let at_once = timeout(Duration::ZERO, waits.as_mut()).await;
    assert!(at_once.is_err(), "there is nothing to tell: {at_once:?}");
    rig.aggregator.apply(pod("a"));
    rig.aggregator.apply(MembershipEvent::Pod(Pod {
        uid: "b".to_owned(),
        name: "pod-b".to_owned(),
        workload: workload(),
        ready: true,
        terminating: false,
        reports: false,
    }));
    let expected = Notice::Uncounted {
        namespace: "shop".to_owned(),
        name: "web-scaler".to_owned(),
        workload: workload(),
        pods: vec!["pod-b".to_owned()],
        total: 1,
    };
    assert_eq!(within(waits).await, [expected]);
    assert_eq!(rig.metric("uncounted_pods"), 1);
    let state = rig.aggregator.debug_state();
    let object = &state["scaled_objects"][0];
    assert_eq!(object["uncounted_pods"], serde_json::json!(["pod-b"]));
}

#[tokio::test]
async fn the_process_is_ready_once_membership_is_synced() {
    let rig = Rig::start(Settings::default(), Acceptor::plaintext()).await;
    let readiness = Readiness::default();
    rig.aggregator.ready_when_synced(readiness.latch());
    assert!(!readiness.is_ready());
    rig.aggregator.apply(MembershipEvent::Synced);
    assert!(readiness.is_ready());
    rig.aggregator.ready_when_synced(readiness.latch());
    assert!(readiness.is_ready());
}
