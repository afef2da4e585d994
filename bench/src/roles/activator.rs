//! The product's activator, with one port for each workload of a fleet. Who is ready is told by an aggregator, or asked for.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use stillwake_activator::{
    Activator, Availability, EndpointEvent, PortPair, REPORT_GAP, Route, Settings as Bounds,
};
use stillwake_proto::report::{Endpoint, Hello, Role};
use stillwake_reporting::{Reporter, ReportingConfig, random_epoch};
use stillwake_runtime::accept::bind;
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;

use super::conversation::Conversation;
use crate::{
    certificates::Certificate,
    fleet::{Fleet, NAMESPACE},
};

/// UID of the endpoint that is asked for.
const BACKEND: &str = "backend";

/// Endpoints that wait to be applied.
const HEARD: usize = 1_000;

/// What it is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// How many workloads it serves.
    pub workloads: usize,
    /// The aggregator's port, if it is to report to one.
    pub aggregator: Option<u16>,
    /// Whom it trusts.
    pub certificate: Certificate,
    /// Most requests held for one workload.
    pub max_held: usize,
}

/// What it can be asked. Each is answered with [`Held`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Question {
    /// From now on this is a ready endpoint of the first workload.
    Ready(SocketAddr),
    /// It is one no longer.
    Gone,
    /// How much is held.
    Held,
}

/// How many requests are held for the first workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held(pub u64);

/// Serves until the input ends; says the ports first, one for each workload.
///
/// # Errors
///
/// When a port cannot be had.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let defaults = Bounds::default();
    let activator = Activator::new(Bounds {
        max_held: settings.max_held,
        // The bound on requests is the one that is measured.
        max_held_bytes: defaults.max_held_bytes * settings.max_held.div_ceil(defaults.max_held),
        ..defaults
    });
    let mut ports = Vec::new();
    for index in 0..settings.workloads {
        let workload = Fleet::workload(index);
        activator.set_workload(workload.clone(), Availability::Available);
        let listener = bind("clients", SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        ports.push(listener.local_addr()?.port());
        let activator = activator.clone();
        tokio::spawn(async move {
            let (drain, abort) = (CancellationToken::new(), CancellationToken::new());
            let route = Route::only(workload);
            activator.serve(listener, route, drain, abort).await;
        });
    }
    if let Some(port) = settings.aggregator {
        report(&activator, port, &settings.certificate).await?;
    }
    let mut conversation = Conversation::begin(&ports)?;
    while let Some(question) = conversation.question().await? {
        let workload = Fleet::workload(0);
        match question {
            Question::Ready(address) => activator.apply(EndpointEvent::Ready {
                workload,
                uid: BACKEND.to_owned(),
                address: address.ip(),
                ports: vec![PortPair {
                    listen: address.port(),
                    app: address.port(),
                }],
            }),
            Question::Gone => activator.apply(EndpointEvent::Gone {
                workload,
                uid: BACKEND.to_owned(),
            }),
            Question::Held => {}
        }
        conversation.say(&held(&activator))?;
    }
    Ok(())
}

fn held(activator: &Activator) -> Held {
    let state = activator.debug_state();
    let first = Fleet::name(0);
    let mut workloads = state["workloads"].as_array().into_iter().flatten();
    let ours = workloads.find(|workload| {
        let named = workload["workload"].as_str();
        named.is_some_and(|name| name.ends_with(&first))
    });
    Held(ours.and_then(|ours| ours["held"].as_u64()).unwrap_or(0))
}

/// Reports as in a cluster, and returns once an aggregator has been reached.
async fn report(activator: &Activator, port: u16, certificate: &Certificate) -> anyhow::Result<()> {
    let hello = Hello {
        epoch: random_epoch(),
        role: Role::Activator.into(),
        namespace: NAMESPACE.to_owned(),
        pod: "activator".to_owned(),
        uid: "activator".to_owned(),
        ..Hello::default()
    };
    let config = ReportingConfig {
        trust: Some(certificate.trust()?),
        minimum_gap: REPORT_GAP,
        ..ReportingConfig::new(vec![format!("127.0.0.1:{port}")], hello)
    };
    let reporter = Reporter::new(config, activator.source());
    let status = reporter.status();
    let (endpoints, mut heard) = mpsc::channel::<Endpoint>(HEARD);
    tokio::spawn(reporter.run(endpoints, CancellationToken::new()));
    let activator = activator.clone();
    tokio::spawn(async move {
        while let Some(endpoint) = heard.recv().await {
            if let Ok(event) = EndpointEvent::try_from(endpoint) {
                activator.apply(event);
            }
        }
    });
    while status.connected() == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
