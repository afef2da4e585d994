//! Who takes the connections of an app that is gone: the activator, at its relay port.

use std::{net::SocketAddr, time::Duration};

use stillwake_proto::relay::{Preamble, TAKEN};
use stillwake_proxy::{drain::Drain, relay::Successor};
use tokio::{sync::watch, time::sleep};

/// How long to wait after the activator's name could not be resolved.
const RESOLVE_AGAIN: Duration = Duration::from_secs(1);

/// Returns the activator at `name` as the successor for the pod with the UID `pod_uid`, and what finds its address once
/// the drain begins, which is to be run.
///
/// Not sooner: a name server need not hear of it from every replica of every app, again and again.
pub(crate) fn activator(
    name: String,
    pod_uid: String,
    drain: Drain,
) -> (Successor, impl Future<Output = ()>) {
    let (found, addresses) = watch::channel(Vec::new());
    let successor = Successor::new(addresses, TAKEN, move |source, destination| {
        // The UID was looked at when the configuration was read.
        let preamble = Preamble::new(source, destination, &pod_uid);
        preamble
            .map(|preamble| preamble.asking().encode())
            .unwrap_or_default()
    });
    (successor, find(name, drain, found))
}

async fn find(name: String, drain: Drain, found: watch::Sender<Vec<SocketAddr>>) {
    drain.draining().await;
    loop {
        match stillwake_reporting::resolve(&name).await {
            Ok(addresses) => {
                tracing::debug!(%name, ?addresses, "Connections are handed over if the app is gone");
                found.send_replace(addresses);
                return;
            }
            Err(error) => {
                tracing::warn!(%name, %error, "Cannot resolve the activator's name, trying again");
                sleep(RESOLVE_AGAIN).await;
            }
        }
    }
}
