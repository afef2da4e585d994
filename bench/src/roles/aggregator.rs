//! The product's aggregator, told of a whole fleet at its start. Hellos are believed: a token would be looked at once for
//! each connection.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use stillwake_aggregator as product;
use stillwake_runtime::{accept::bind, tls::Acceptor};
use tokio_util::sync::CancellationToken;

use super::conversation::Conversation;
use crate::{certificates::Certificate, fleet::Fleet};

/// What it is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Who exists.
    pub fleet: Fleet,
    /// Port for reporters; 0 for any.
    pub ingest: u16,
    /// Port for KEDA; 0 for any.
    pub scaler: u16,
    /// What it shows to reporters.
    pub certificate: Certificate,
}

/// Where it listens.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Ports {
    /// For reporters, over TLS.
    pub ingest: u16,
    /// For KEDA, in plaintext.
    pub scaler: u16,
}

/// Serves until the input ends.
///
/// # Errors
///
/// When a port cannot be had.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let defaults = product::Settings::default();
    let aggregator = product::Aggregator::new(product::Settings {
        // Bounds are for clusters, where each reporter has its own address; here all of them come from one.
        max_unidentified_per_address: defaults.max_unidentified,
        max_connections: defaults.max_connections.max(settings.fleet.pods() + 100),
        ..defaults
    });
    for event in settings.fleet.membership() {
        aggregator.apply(event);
    }
    let listen = |what, port| bind(what, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    let ingest = listen("reporters", settings.ingest)?;
    let scaler = listen("KEDA", settings.scaler)?;
    let ports = Ports {
        ingest: ingest.local_addr()?.port(),
        scaler: scaler.local_addr()?.port(),
    };
    let acceptor = settings.certificate.acceptor()?;
    let (collecting, answering) = (aggregator.clone(), aggregator);
    tokio::spawn(async move {
        let forever = CancellationToken::new();
        collecting.serve_ingest(ingest, acceptor, forever).await;
    });
    tokio::spawn(async move {
        let forever = CancellationToken::new();
        answering
            .serve_scaler(scaler, Acceptor::plaintext(), forever)
            .await;
    });
    Conversation::begin(&ports)?.end().await
}
