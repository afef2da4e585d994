//! The report protocol as somebody speaks it who may say anything.

use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use stillwake_e2e::cluster::watching;
use stillwake_proto::{
    REPORT_VERSION,
    frame::FrameCodec,
    report::{
        AggregatorFrame, Count, Hello, PodReport, Port, ReporterFrame, Role, aggregator_frame,
        reporter_frame::Kind,
    },
};
use stillwake_runtime::tls::{MaybeTls, Trust};
use tokio::{net::TcpStream, time::timeout};
use tokio_util::codec::Framed;

use super::name;

pub(super) type Frames = Framed<MaybeTls, FrameCodec<ReporterFrame, AggregatorFrame>>;

/// What an aggregator does with a hello.
#[derive(Debug)]
pub(super) enum Reception {
    /// It says how often to report.
    Believed(Box<Frames>),
    /// It closes the connection without a word.
    Refused,
}

/// Returns what a sidecar of a pod says first.
pub(super) fn hello(pod: &Pod, token: &str) -> anyhow::Result<Hello> {
    let (pod_name, uid) = name(pod);
    let status = pod.status.as_ref().context("a pod without a status")?;
    Ok(Hello {
        version: REPORT_VERSION,
        epoch: rand::random_range(1..u64::MAX),
        role: Role::Sidecar.into(),
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        pod: pod_name,
        uid,
        token: token.to_owned(),
        address: status.pod_ip.clone().unwrap_or_default(),
        ports: vec![Port {
            listen: 15080,
            app: 8080,
        }],
    })
}

/// Says that a thousand requests are in flight.
fn claim() -> ReporterFrame {
    let count = Count {
        in_flight: 1_000,
        in_flight_time: 1_000 * 60_000_000,
        requests: 1_000_000,
    };
    let report = PodReport {
        elapsed: 60_000_000,
        count: Some(count),
        app_ready: true,
        draining: false,
    };
    ReporterFrame {
        kind: Some(Kind::Pod(report)),
    }
}

/// Introduces itself and makes its claim, and returns what becomes of it.
pub(super) async fn introduce(
    trust: &Trust,
    host: &str,
    stream: TcpStream,
    hello: Hello,
) -> anyhow::Result<Reception> {
    let introduced = async {
        let stream = trust.connect(host, stream).await?;
        let mut frames: Frames = Framed::new(stream, FrameCodec::default());
        let hello = ReporterFrame {
            kind: Some(Kind::Hello(hello)),
        };
        frames.send(hello).await?;
        // Whoever has been refused by now cannot send it.
        let _ = frames.send(claim()).await;
        match frames.next().await {
            Some(Ok(AggregatorFrame {
                kind: Some(aggregator_frame::Kind::Pace(_)),
            })) => Ok(Reception::Believed(Box::new(frames))),
            Some(Ok(other)) => bail!("it answers {other:?}"),
            None | Some(Err(_)) => Ok(Reception::Refused),
        }
    };
    let introduced = timeout(watching::PATIENCE, introduced).await;
    introduced.context("it neither answers nor closes")?
}

/// How long something that trickles pauses.
pub(super) const TRICKLE: Duration = Duration::from_millis(500);
