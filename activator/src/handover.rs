//! Connections that the sidecars of leaving pods hand over: finds out whose each is, from where on it is like any other of
//! that workload and port.
//!
//! Nobody proves who he is: a Service's own port leads to the same place as soon as its workload is at zero.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use stillwake_proto::relay::{Parsed, Preamble, TAKEN};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    connection::{self, Context},
    directory::Directory,
    metrics::{Handover, Metrics},
};

/// How long a sidecar may take to say whose connection it is.
const PREAMBLE_LIMIT: Duration = Duration::from_secs(5);

/// What all handed-over connections have in common.
#[derive(Clone, Debug)]
pub(crate) struct Handovers {
    pub(crate) directory: Arc<Directory>,
    pub(crate) metrics: Metrics,
    /// Tasks that the listener's end waits for.
    pub(crate) connections: TaskTracker,
    pub(crate) drain: CancellationToken,
    pub(crate) abort: CancellationToken,
}

/// Serves a connection of a sidecar to its end.
pub(crate) async fn serve(mut stream: TcpStream, peer: SocketAddr, handovers: Handovers) {
    let preamble = tokio::select! {
        biased;
        () = handovers.abort.cancelled() => return,
        preamble = timeout(PREAMBLE_LIMIT, preamble(&mut stream)) => preamble,
    };
    let preamble = preamble.unwrap_or_else(|elapsed| Err(elapsed.into()));
    let asks = preamble.as_ref().is_ok_and(Preamble::asks);
    let Some(context) = handovers.context(peer, preamble) else {
        // The sidecar passes the reset on, or has another idea. Fails only if there is nobody any more.
        let _ = stream.set_zero_linger();
        return;
    };
    // One byte into an empty buffer: it does not wait, and fails only if the sidecar is gone, which reading tells.
    if asks {
        let _ = stream.write_all(&[TAKEN]).await;
    }
    let holder = Arc::clone(&context.holder);
    tokio::select! {
        () = connection::serve(stream, context) => {}
        // The route may be one that nobody listens for here, who would keep its time.
        () = holder.keep_time() => {}
    }
}

impl Handovers {
    /// Returns where the connection leads, or nothing if that cannot be said; counts it either way.
    fn context(&self, peer: SocketAddr, preamble: io::Result<Preamble>) -> Option<Context> {
        let preamble = match preamble {
            Ok(preamble) => preamble,
            Err(error) => {
                tracing::debug!(%peer, %error, "A connection was handed over without saying whose it is");
                self.metrics.handed_over(match error.kind() {
                    io::ErrorKind::InvalidData => Handover::Malformed,
                    _ => Handover::Incomplete,
                });
                return None;
            }
        };
        let (uid, port) = (preamble.pod_uid(), preamble.destination().port());
        let (client, pod) = (preamble.source(), preamble.destination());
        let Some((holder, route)) = self.directory.find(uid, port) else {
            tracing::debug!(%peer, %client, %pod, uid, "A connection was handed over of an unknown pod or port");
            self.metrics.handed_over(Handover::Unknown);
            return None;
        };
        tracing::trace!(%peer, %client, %pod, uid, workload = %route.workload, route = route.name, "Connection handed over");
        self.metrics.handed_over(Handover::Taken);
        Some(Context {
            holder,
            route,
            connections: self.connections.clone(),
            drain: self.drain.clone(),
            abort: self.abort.clone(),
            left: Some(uid.into()),
        })
    }
}

/// Reads the preamble and nothing of what comes after it.
async fn preamble(stream: &mut TcpStream) -> io::Result<Preamble> {
    let mut bytes = Vec::new();
    loop {
        let parsed = Preamble::parse(&bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        match parsed {
            Parsed::Whole(preamble) => return Ok(preamble),
            Parsed::Missing(more) => {
                let begin = bytes.len();
                bytes.resize(begin + more, 0);
                stream.read_exact(&mut bytes[begin..]).await?;
            }
        }
    }
}
