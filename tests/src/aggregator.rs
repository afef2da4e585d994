//! The aggregator of the cluster suites: the product's library in a process that is told over HTTP who exists.
//!
//! Not the product's control plane, which watches Kubernetes; a suite plays that part, and thereby decides what is
//! known when. The suite's side is in `cluster::aggregator`.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::Context;
use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use serde::{Deserialize, Serialize};
use stillwake_aggregator::{Aggregator, MembershipEvent, Pod, ScaledObject, Settings};
use stillwake_proto::report::Workload;
use stillwake_runtime::{
    accept::bind,
    admin::Admin,
    logging::{self, DEFAULT_FILTER, Format},
    metrics::registry,
    readiness::Readiness,
    shutdown::Shutdown,
    tls::Acceptor,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Port for reporters.
pub const INGEST_PORT: u16 = 9080;

/// Port for KEDA.
pub const SCALER_PORT: u16 = 9081;

/// Port of `/ready`, `/metrics` and `/debug/state`.
pub const ADMIN_PORT: u16 = 9082;

/// Port of `POST /membership`, which takes a JSON array of [`Event`]s.
pub const MEMBERSHIP_PORT: u16 = 9083;

/// What a suite tells the aggregator. Each event says the whole of its subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A `ScaledObject` was created or changed.
    ScaledObject {
        /// Its namespace, and its Deployment's.
        namespace: String,
        /// Its name.
        name: String,
        /// What it scales.
        deployment: String,
        /// Its `pollingInterval`.
        polling_interval: Duration,
    },
    /// A pod with a sidecar was created or changed.
    Pod {
        /// Its namespace.
        namespace: String,
        /// The Deployment it belongs to.
        deployment: String,
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
        /// Whether it takes traffic.
        ready: bool,
    },
    /// A pod object is gone.
    PodGone {
        /// Its UID.
        uid: String,
    },
    /// Everything that existed at the start has been told.
    Synced,
}

impl From<Event> for MembershipEvent {
    fn from(event: Event) -> Self {
        match event {
            Event::ScaledObject {
                namespace,
                name,
                deployment,
                polling_interval,
            } => Self::ScaledObject(ScaledObject {
                workload: workload(&namespace, &deployment),
                namespace,
                name,
                polling_interval,
                max_replicas: 100,
                paused: false,
            }),
            Event::Pod {
                namespace,
                deployment,
                name,
                uid,
                ready,
            } => Self::Pod(Pod {
                uid,
                name,
                workload: workload(&namespace, &deployment),
                ready,
                terminating: false,
                reports: true,
            }),
            Event::PodGone { uid } => Self::PodGone { uid },
            Event::Synced => Self::Synced,
        }
    }
}

/// A Deployment as reporters and aggregators name it.
pub fn workload(namespace: &str, deployment: &str) -> Workload {
    Workload {
        namespace: namespace.to_owned(),
        kind: "Deployment".to_owned(),
        name: deployment.to_owned(),
    }
}

/// Serves until SIGTERM, then ends every stream with OK.
///
/// # Errors
///
/// When a port cannot be had.
pub async fn run() -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals().context("cannot listen to signals")?;
    logging::init(DEFAULT_FILTER, Format::Text)?;
    let aggregator = Aggregator::new(Settings::default());
    let listen = |what, port| bind(what, (Ipv4Addr::UNSPECIFIED, port).into());
    let ingest = listen("reporters", INGEST_PORT)?;
    let scaler = listen("KEDA", SCALER_PORT)?;
    let admin = listen("the admin pages", ADMIN_PORT)?;
    let membership = listen("membership", MEMBERSHIP_PORT)?;

    let mut registry = registry("e2e-aggregator");
    aggregator.register_metrics(&mut registry);
    let state = aggregator.clone();
    let pages = Admin::new(Readiness::default(), registry, move || state.debug_state());
    let stop = || shutdown.drain.clone();
    let served = async {
        let ((), (), (), told) = tokio::join!(
            aggregator.serve_ingest(ingest, Acceptor::plaintext(), stop()),
            aggregator.serve_scaler(scaler, Acceptor::plaintext(), stop()),
            pages.serve(admin, stop()),
            take_membership(aggregator.clone(), membership, stop()),
        );
        told.context("the membership port failed")
    };
    tokio::select! {
        served = served => served,
        () = shutdown.abort.cancelled() => Ok(()),
    }
}

async fn take_membership(
    aggregator: Aggregator,
    listener: TcpListener,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let pages = Router::new()
        .route("/membership", post(membership))
        .with_state(aggregator);
    axum::serve(listener, pages)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

async fn membership(State(aggregator): State<Aggregator>, body: Bytes) -> (StatusCode, String) {
    match serde_json::from_slice::<Vec<Event>>(&body) {
        Ok(events) => {
            let told = format!("{} events\n", events.len());
            for event in events {
                aggregator.apply(event.into());
            }
            (StatusCode::OK, told)
        }
        Err(error) => {
            let reason = format!("the body must be a JSON array of events: {error}\n");
            (StatusCode::BAD_REQUEST, reason)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_told_reaches_the_aggregator_and_what_cannot_be_read_is_refused_with_a_reason()
    {
        let aggregator = Aggregator::new(Settings::default());
        let events = [
            Event::ScaledObject {
                namespace: "shop".to_owned(),
                name: "web-scaler".to_owned(),
                deployment: "web".to_owned(),
                polling_interval: Duration::from_secs(30),
            },
            Event::Synced,
        ];
        let body = serde_json::to_vec(&events).unwrap();
        let (status, _) = membership(State(aggregator.clone()), body.into()).await;
        assert_eq!(status, StatusCode::OK);
        let state = aggregator.debug_state();
        assert_eq!(state["synced"], true);
        assert_eq!(
            state["scaled_objects"][0]["workload"],
            "shop/Deployment/web"
        );

        let wrong = Bytes::from_static(br#"[{"pod-left":{"uid":"a"}}]"#);
        let (status, reason) = membership(State(aggregator), wrong).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(reason.contains("pod-left"), "{reason}");
    }
}
