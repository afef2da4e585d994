//! The way of one held request to a connection that a backend accepted: waits, dials, and waits again.

use std::{future::Future, io, net::SocketAddr, time::Duration};

use h2::Reason;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    answer::Rejection,
    connection::Context,
    holder::Hold,
    metrics::Outcome,
    queue::{Decision, Release},
    stream::ClientStream,
};

/// Why a held request did not reach a backend, or got no answer from it.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The client is to be told.
    Rejected(Rejection),
    /// The backend ended the request's stream, and the client's is to end likewise.
    Reset(Reason),
    /// There is nobody to tell.
    ClientLeft,
}

/// Why an endpoint was not reached.
#[derive(Debug)]
pub(crate) enum Unreached {
    /// It did not accept a connection; it may do so later, and another now.
    NotAccepted(io::Error),
    /// It accepted one that is of no use, and would do so again.
    Useless(Rejection),
}

/// When a client gives its request up by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnDeadline {
    pub(crate) at: Instant,
    /// How long that was when the request came.
    pub(crate) given: Duration,
}

/// What is held: it has a client, and its own way to connect to endpoints.
pub(crate) trait Reach: Sync {
    /// A connection that an endpoint accepted.
    type Backend: Send;

    /// Connects to the endpoint of the release; one address may take up to `limit` to accept.
    fn connect(
        &self,
        release: &Release,
        limit: Duration,
    ) -> impl Future<Output = Result<Self::Backend, Unreached>> + Send;

    /// Returns when the client has left, looking every `interval`.
    fn departure(&self, interval: Duration) -> impl Future<Output = ()> + Send;
}

/// For each request, and each held connection, a connection of its own.
impl Reach for ClientStream {
    type Backend = TcpStream;

    async fn connect(&self, release: &Release, limit: Duration) -> Result<TcpStream, Unreached> {
        let dialled = dial(&release.addresses, limit).await;
        dialled.map_err(Unreached::NotAccepted)
    }

    async fn departure(&self, interval: Duration) {
        self.departure(interval).await;
    }
}

/// Holds until an endpoint accepts a connection, and returns that connection with the place, still held.
///
/// A client that closes its side of the connection counts as gone, even where it would still read an answer: what a
/// client that is no longer there asked for must not be carried out.
pub(crate) async fn wait<C: Reach>(
    mut hold: Hold,
    deadline: Option<OwnDeadline>,
    client: &C,
    context: &Context,
) -> Result<(C::Backend, Hold), Lost> {
    let interval = context.holder.settings().departure_interval;
    let out_of_time = async {
        match deadline {
            Some(deadline) => {
                sleep_until(deadline.at).await;
                Rejection::OutOfTime(deadline.given)
            }
            None => std::future::pending().await,
        }
    };
    let lost = tokio::select! {
        biased;
        () = client.departure(interval) => Lost::ClientLeft,
        () = context.abort.cancelled() => Lost::Rejected(Rejection::Stopping),
        reached = reach(&mut hold, client, context) => match reached {
            Ok(backend) => return Ok((backend, hold)),
            Err(rejection) => Lost::Rejected(rejection),
        },
        rejection = out_of_time => Lost::Rejected(rejection),
    };
    hold.end(match &lost {
        Lost::Rejected(rejection) => rejection.outcome(),
        Lost::Reset(_) | Lost::ClientLeft => Outcome::ClientLeft,
    });
    Err(lost)
}

async fn reach<C: Reach>(
    hold: &mut Hold,
    client: &C,
    context: &Context,
) -> Result<C::Backend, Rejection> {
    let connect_timeout = context.holder.settings().connect_timeout;
    loop {
        let release = match hold.decision().await {
            Decision::Release(release) => release,
            Decision::Expire(waited) => return Err(Rejection::Expired(waited)),
            Decision::Refuse(reason) => return Err(reason.into()),
        };
        let connected = if context.came_from(release.endpoint) {
            let error = io::Error::other("it has handed this connection over");
            Err(Unreached::NotAccepted(error))
        } else {
            client.connect(&release, connect_timeout).await
        };
        match connected {
            Ok(backend) => return Ok(backend),
            Err(Unreached::Useless(rejection)) => return Err(rejection),
            Err(Unreached::NotAccepted(error)) => {
                let workload = context.holder.workload();
                let addresses = &release.addresses;
                tracing::debug!(%workload, ?addresses, %error, "Endpoint does not accept connections");
                hold.dial_failed();
            }
        }
    }
}

/// Connects to the first address that accepts within `limit`; the error is the last address's.
pub(crate) async fn dial(addresses: &[SocketAddr], limit: Duration) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::AddrNotAvailable, "endpoint has no address");
    for address in addresses {
        match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Fails only if the peer is gone already, which the first write will tell.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => failure = error,
            Err(elapsed) => failure = elapsed.into(),
        }
    }
    Err(failure)
}
