//! Accepts connections and relays each in a task of its own, until the process leaves and they have drained.
//!
//! Does not bind, and takes every connection that comes: how many an app bears is not for the relay to say.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use stillwake_runtime::accept::accept;

use crate::{
    drain::Drain,
    relay::{Relay, Upstream},
};

/// Serves `listener` until the process leaves and it has drained, or is aborted.
///
/// New connections are accepted also while draining, for as long as routing still sends them here. Once the process leaves
/// and there has been none for [`RelaySettings::settle`](crate::relay::RelaySettings::settle) on any listener of `relay`, the listener
/// closes: one port of a pod must not refuse connections while another still drains. `abort` resets what is left.
///
/// # Cancel safety
///
/// Dropping the future is an abort.
pub async fn serve(
    listener: TcpListener,
    upstream: Upstream,
    relay: Arc<Relay>,
    drain: Drain,
    abort: CancellationToken,
) {
    let mut connections = JoinSet::new();
    let mut open = relay.open_connections();
    // Set while leaving with no connection open.
    let mut settled: Option<Instant> = None;
    loop {
        settled = (drain.is_leaving() && *open.borrow_and_update() == 0)
            .then(|| settled.unwrap_or_else(|| Instant::now() + relay.settings().settle));
        let waits = settled.is_some();
        let settles = sleep_until(settled.unwrap_or_else(Instant::now));
        tokio::select! {
            biased;
            () = abort.cancelled() => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => note_panic(ended),
            (client, peer) = accept(&listener) => {
                let counted = relay.open_connection();
                let (relay, drain) = (Arc::clone(&relay), drain.clone());
                connections.spawn(async move {
                    connection(client, peer, upstream, &relay, &drain).await;
                    drop(counted);
                });
            }
            () = drain.leaving(), if !drain.is_leaving() => {}
            // Only of interest while leaving: otherwise nothing follows from it.
            Ok(()) = open.changed(), if drain.is_leaving() => {}
            () = settles, if waits => return,
        }
    }
    connections.shutdown().await;
}

async fn connection(
    client: TcpStream,
    peer: SocketAddr,
    upstream: Upstream,
    relay: &Relay,
    drain: &Drain,
) {
    match relay.relay(client, upstream, drain).await {
        Ok(()) => tracing::trace!(%peer, "Connection closed"),
        Err(error) => tracing::debug!(%peer, %error, "Connection reset"),
    }
}

/// A connection that panicked was reset like any broken one; the others go on.
fn note_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "A connection panicked");
    }
}
