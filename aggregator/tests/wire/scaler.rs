//! KEDA's side.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use stillwake_aggregator::{MembershipEvent, Settings};
use stillwake_proto::{report::Role, scaler::ScaledObjectRef};
use stillwake_runtime::tls::{Acceptor, server_config};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tonic::{
    Code, Streaming,
    transport::{Certificate, Channel, ClientTlsConfig},
};

use crate::harness::{Client, Reporter, Rig, eventually, metric, object, pod, within};

/// A resend that a test need not wait for.
fn quick() -> Settings {
    Settings {
        hold_resend: Duration::from_millis(20),
        ..Settings::default()
    }
}

async fn refused<T: std::fmt::Debug>(
    call: impl Future<Output = Result<T, tonic::Status>>,
) -> (Code, String) {
    let status = within(call).await.unwrap_err();
    (status.code(), status.message().to_owned())
}

/// Reads to the end of a stream and returns what it carried; fails if it ends with an error.
async fn drain<T>(mut stream: Streaming<T>) -> Vec<T> {
    let mut carried = Vec::new();
    while let Some(answer) = within(stream.message())
        .await
        .expect("the stream ends with OK")
    {
        carried.push(answer);
    }
    carried
}

#[tokio::test]
async fn before_membership_is_synced_loads_are_unavailable_and_then_an_unknown_object_is_not_found()
{
    let rig = Rig::start(quick(), Acceptor::plaintext()).await;
    let mut client = rig.client().await;
    let (code, message) = refused(client.is_active(object(&[]))).await;
    assert_eq!(code, Code::Unavailable, "{message}");
    rig.aggregator.apply(MembershipEvent::Synced);
    let active = client.is_active(object(&[])).await.unwrap().into_inner();
    assert!(!active.result);
    let other = ScaledObjectRef {
        name: "other".to_owned(),
        ..object(&[])
    };
    let (code, message) = refused(client.is_active(other)).await;
    assert_eq!(code, Code::NotFound);
    assert!(message.contains("shop/other"), "{message}");
}

#[tokio::test]
async fn while_a_known_pod_has_not_reported_loads_are_unavailable_and_specs_are_told() {
    let rig = Rig::start(quick(), Acceptor::plaintext()).await;
    rig.aggregator.apply(pod("a"));
    rig.aggregator.apply(MembershipEvent::Synced);
    let mut client = rig.client().await;
    let (code, message) = refused(client.is_active(object(&[]))).await;
    assert_eq!(code, Code::Unavailable);
    assert!(message.contains("pod-a"), "{message}");
    let (code, _) = refused(client.get_metrics(metric("concurrency", &[]))).await;
    assert_eq!(code, Code::Unavailable);
    let specs = client
        .get_metric_spec(object(&[]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(specs.metric_specs.len(), 1);
    let pushes = within(client.stream_is_active(object(&[]))).await.unwrap();

    let mut sidecar = Reporter::connect(&rig, Role::Sidecar, "a").await;
    sidecar.report(4, 4).await;
    let answer = async || client.get_metrics(metric("concurrency", &[])).await;
    let metrics = eventually(answer, Result::is_ok)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(metrics.metric_values.len(), 1);
    assert_eq!(metrics.metric_values[0].metric_name, "concurrency");
    assert!(
        client
            .is_active(object(&[]))
            .await
            .unwrap()
            .into_inner()
            .result
    );

    rig.stop.cancel();
    let carried = drain(pushes.into_inner()).await;
    assert!(carried.iter().all(|push| push.result), "{carried:?}");
    rig.ended().await;
}

#[tokio::test]
async fn a_request_between_two_polls_is_active_at_the_next() {
    let rig = Rig::synced(quick()).await;
    rig.aggregator.apply(pod("a"));
    let mut client = rig.client().await;
    let mut sidecar = Reporter::connect(&rig, Role::Sidecar, "a").await;
    sidecar.report(0, 0).await;
    let mut is_active = async || {
        let answer = client.is_active(object(&[])).await;
        answer.map(|active| active.into_inner().result).ok()
    };
    eventually(&mut is_active, |active| *active == Some(false)).await;
    sidecar.report(0, 1).await;
    eventually(&mut is_active, |active| *active == Some(true)).await;
}

#[tokio::test]
async fn held_requests_push_true_at_once_and_again_and_never_false() {
    let rig = Rig::synced(quick()).await;
    let mut client = rig.client().await;
    let mut early = client
        .stream_is_active(object(&[]))
        .await
        .unwrap()
        .into_inner();
    let mut activator = Reporter::connect(&rig, Role::Activator, "act").await;
    activator.hold(0, 0).await;
    activator.hold(1, 1).await;
    for _ in 0..3 {
        let push = within(early.message()).await.unwrap().unwrap();
        assert!(push.result);
    }
    // A stream that opens while requests starve is told at once.
    let mut late = client
        .stream_is_active(object(&[]))
        .await
        .unwrap()
        .into_inner();
    assert!(within(late.message()).await.unwrap().unwrap().result);

    activator.hold(0, 1).await;
    rig.stop.cancel();
    for stream in [early, late] {
        assert!(drain(stream).await.iter().all(|push| push.result));
    }
    rig.ended().await;
}

#[tokio::test]
async fn the_first_request_at_a_sidecar_pushes_true() {
    let rig = Rig::synced(quick()).await;
    rig.aggregator.apply(pod("a"));
    let mut client = rig.client().await;
    let mut stream = client
        .stream_is_active(object(&[]))
        .await
        .unwrap()
        .into_inner();
    let mut sidecar = Reporter::connect(&rig, Role::Sidecar, "a").await;
    sidecar.report(0, 0).await;
    sidecar.report(1, 1).await;
    assert!(within(stream.message()).await.unwrap().unwrap().result);
}

#[tokio::test]
async fn streams_end_with_ok_at_their_age_and_the_specs_come_first() {
    let age = Duration::from_millis(30);
    let rig = Rig::synced(Settings {
        stream_age: age..=age,
        ..quick()
    })
    .await;
    let mut client = rig.client().await;
    let pushes = client.stream_is_active(object(&[])).await.unwrap();
    assert!(drain(pushes.into_inner()).await.is_empty());
    let specs = client
        .stream_metric_spec(object(&[("targetConcurrency", "5")]))
        .await
        .unwrap();
    let carried = drain(specs.into_inner()).await;
    assert_eq!(carried.len(), 1);
    let asked = client
        .get_metric_spec(object(&[("targetConcurrency", "5")]))
        .await;
    assert_eq!(carried[0], asked.unwrap().into_inner());
}

#[tokio::test]
async fn a_connection_of_age_lets_its_streams_end_and_the_next_is_opened_on_another() {
    let age = Duration::from_millis(300);
    let rig = Rig::synced(Settings {
        connection_age: Duration::from_millis(10),
        stream_age: age..=age,
        ..quick()
    })
    .await;
    let (address, connections) = counted(rig.scaler).await;
    let client = Client::connect(format!("http://{address}")).await;
    let mut client = client.unwrap();
    for opened in 1..=3 {
        let pushes = client.stream_is_active(object(&[])).await.unwrap();
        drain(pushes.into_inner()).await;
        assert_eq!(connections.load(Ordering::Relaxed), opened);
    }
}

/// Relays connections to a server; returns the address for them, and how many there were.
async fn counted(server: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let mut server = TcpStream::connect(server).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
        }
    });
    (address, connections)
}

#[tokio::test]
async fn streams_beyond_the_bound_are_refused() {
    let rig = Rig::synced(Settings {
        max_streams: 1,
        ..quick()
    })
    .await;
    let mut client = rig.client().await;
    let _first = client.stream_is_active(object(&[])).await.unwrap();
    let (code, _) = refused(client.stream_is_active(object(&[]))).await;
    assert_eq!(code, Code::ResourceExhausted);
}

#[tokio::test]
async fn two_targets_are_two_metrics_each_with_its_value() {
    let rig = Rig::synced(quick()).await;
    rig.aggregator.apply(pod("a"));
    let mut client = rig.client().await;
    let both = [
        ("targetConcurrency", "2.5"),
        ("targetRequestRate", "7"),
        ("window", "10s"),
    ];
    let specs = client
        .get_metric_spec(object(&both))
        .await
        .unwrap()
        .into_inner();
    let told: Vec<_> = specs
        .metric_specs
        .iter()
        .map(|spec| {
            (
                spec.metric_name.as_str(),
                spec.target_size_float,
                spec.target_size,
            )
        })
        .collect();
    assert_eq!(told, [("concurrency", 2.5, 3), ("request-rate", 7.0, 7)]);

    let mut sidecar = Reporter::connect(&rig, Role::Sidecar, "a").await;
    sidecar.report(2, 100).await;
    let rate = async || {
        let metrics = client.get_metrics(metric("request-rate", &both)).await.ok();
        metrics.map(|metrics| metrics.into_inner().metric_values[0].metric_value_float)
    };
    // 100 requests within a process's first milliseconds, of which at least a second is taken.
    let rate = eventually(rate, |rate| rate.is_some_and(|rate| rate > 0.0)).await;
    assert!(rate.is_some_and(|rate| rate <= 100.0), "{rate:?}");
    let (code, message) = refused(client.get_metrics(metric("cpu", &both))).await;
    assert_eq!(code, Code::InvalidArgument);
    assert!(
        message.contains("'cpu'") && message.contains("concurrency, request-rate"),
        "{message}"
    );
}

#[tokio::test]
async fn bad_metadata_is_an_invalid_argument_on_every_call() {
    let rig = Rig::synced(quick()).await;
    let mut client = rig.client().await;
    let bad = [("targetConcurrency", "lots")];
    let answers = [
        refused(client.is_active(object(&bad))).await,
        refused(client.get_metric_spec(object(&bad))).await,
        refused(client.get_metrics(metric("concurrency", &bad))).await,
        refused(client.stream_is_active(object(&bad))).await,
        refused(client.stream_metric_spec(object(&bad))).await,
    ];
    for (code, message) in answers {
        assert_eq!(code, Code::InvalidArgument);
        for part in ["targetConcurrency", "'lots'", "a number"] {
            assert!(message.contains(part), "{part} is missing from: {message}");
        }
    }
}

#[tokio::test]
async fn one_port_serves_tls_and_plaintext() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    std::fs::write(&chain, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let config = server_config(&chain, &key).unwrap();
    let rig = Rig::start(quick(), Acceptor::tls(Arc::new(config), false)).await;
    rig.aggregator.apply(MembershipEvent::Synced);

    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(made.cert.pem()))
        .domain_name("localhost");
    let channel = Channel::from_shared(format!("https://{}", rig.scaler))
        .unwrap()
        .tls_config(tls)
        .unwrap()
        .connect()
        .await
        .unwrap();
    for mut client in [Client::new(channel), rig.client().await] {
        let active = client.is_active(object(&[])).await.unwrap().into_inner();
        assert!(!active.result);
    }
    let mut reporter = Reporter::connect(&rig, Role::Sidecar, "plain").await;
    reporter.report(0, 0).await;
}
