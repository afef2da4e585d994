//! One client connection: tells its protocol and hands it to what holds that protocol.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    endpoints::EndpointId,
    holder::{Hold, Holder},
    http1, http2, opaque,
    protocol::{Protocol, detect},
    queue::Refusal,
    route::Route,
    stream::ClientStream,
};

/// Bytes that are looked at to tell the protocol.
const FIRST_BYTES: usize = 64;

/// Pause between two looks at first bytes that do not tell yet, doubled each time up to the limit. The socket is readable
/// all the while, so there is nothing to wait for.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
const LOOK_AGAIN_LIMIT: Duration = Duration::from_millis(100);

/// How long a connection may take to deliver its last answer once everything is to stop.
const FLUSH: Duration = Duration::from_secs(2);

/// What the connections of one listener have in common.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) holder: Arc<Holder>,
    pub(crate) route: Arc<Route>,
    /// Tasks that the listener's end waits for.
    pub(crate) connections: TaskTracker,
    /// No connection is taken any longer, and those that could last are to end.
    pub(crate) drain: CancellationToken,
    pub(crate) abort: CancellationToken,
    /// UID of the pod that has handed the connection over. It would do so again, for as long as it looks ready.
    pub(crate) left: Option<Arc<str>>,
}

impl Context {
    /// Whether the connection comes from this endpoint.
    pub(crate) fn came_from(&self, endpoint: EndpointId) -> bool {
        let left = self.left.as_deref();
        left.is_some_and(|uid| self.holder.is_named(endpoint, uid))
    }

    /// Gives a request of `bytes` a place, or says why there is none.
    pub(crate) fn hold(&self, bytes: usize) -> Result<Hold, Refusal> {
        self.holder.hold(&self.route, bytes)
    }

    /// Returns when answers that are on their way have had their time after `abort`.
    pub(crate) async fn aborted(&self) {
        self.abort.cancelled().await;
        sleep(FLUSH).await;
    }
}

/// Serves a connection to its end.
pub(crate) async fn serve(stream: TcpStream, context: Context) {
    let client = ClientStream::new(stream);
    let wait = context.holder.settings().first_byte_wait;
    let protocol = tokio::select! {
        biased;
        () = context.abort.cancelled() => return,
        told = timeout(wait, tell(&client)) => told,
    };
    match protocol {
        Ok(Ok(Some(Protocol::Http1))) => http1::serve(client, context, None).await,
        // Apart, so that those that are held by the thousand are not as large as these.
        Ok(Ok(Some(Protocol::Http2))) => Box::pin(http2::serve(client, context)).await,
        Ok(Ok(Some(Protocol::Opaque))) => Box::pin(opaque::serve(client, context)).await,
        // Whoever is silent may be waiting for the server to speak first.
        Err(_) => Box::pin(opaque::serve_silent(client, context)).await,
        Ok(Ok(None)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "Client left before its first byte"),
    }
}

/// Returns the protocol once the first bytes tell it, or nothing if the client closed before.
pub(crate) async fn tell(client: &ClientStream) -> io::Result<Option<Protocol>> {
    let mut first = [0; FIRST_BYTES];
    let mut pause = LOOK_AGAIN;
    loop {
        let length = client.peek(&mut first).await?;
        if length == 0 {
            return Ok(None);
        }
        if let Some(protocol) = detect(&first[..length]) {
            return Ok(Some(protocol));
        }
        if client.has_left() {
            return Ok(None);
        }
        sleep(pause).await;
        pause = (pause * 2).min(LOOK_AGAIN_LIMIT);
    }
}
