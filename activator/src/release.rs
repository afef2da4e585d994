//! The way of one held request to a connection that a backend accepted: waits, dials, and waits again.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{net::TcpStream, time::timeout};

use crate::{
    answer::Rejection, connection::Context, holder::Hold, metrics::Outcome, queue::Decision,
    stream::ClientStream,
};

/// Why a held request did not reach a backend.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The client is to be told.
    Rejected(Rejection),
    /// There is nobody to tell.
    ClientLeft,
}

/// Holds until an endpoint accepts a connection, and returns that connection with the place, still held.
///
/// A client that closes its side of the connection counts as gone, even where it would still read an answer: what a
/// client that is no longer there asked for must not be carried out.
pub(crate) async fn wait(
    mut hold: Hold,
    client: &ClientStream,
    context: &Context,
) -> Result<(TcpStream, Hold), Lost> {
    let interval = context.holder.settings().departure_interval;
    let lost = tokio::select! {
        biased;
        () = client.departure(interval) => Lost::ClientLeft,
        () = context.abort.cancelled() => Lost::Rejected(Rejection::Stopping),
        reached = reach(&mut hold, context) => match reached {
            Ok(backend) => return Ok((backend, hold)),
            Err(rejection) => Lost::Rejected(rejection),
        },
    };
    hold.end(match &lost {
        Lost::Rejected(rejection) => rejection.outcome(),
        Lost::ClientLeft => Outcome::ClientLeft,
    });
    Err(lost)
}

async fn reach(hold: &mut Hold, context: &Context) -> Result<TcpStream, Rejection> {
    let connect_timeout = context.holder.settings().connect_timeout;
    loop {
        let release = match hold.decision().await {
            Decision::Release(release) => release,
            Decision::Expire(waited) => return Err(Rejection::Expired(waited)),
            Decision::Refuse(reason) => return Err(reason.into()),
        };
        let dialled = if context.came_from(release.endpoint) {
            Err(io::Error::other("it has handed this connection over"))
        } else {
            dial(&release.addresses, connect_timeout).await
        };
        match dialled {
            Ok(backend) => return Ok(backend),
            Err(error) => {
                let workload = context.holder.workload();
                let addresses = &release.addresses;
                tracing::debug!(%workload, ?addresses, %error, "Endpoint does not accept connections");
                hold.dial_failed();
            }
        }
    }
}

/// Connects to the first address that accepts within `limit`; the error is the last address's.
async fn dial(addresses: &[SocketAddr], limit: Duration) -> io::Result<TcpStream> {
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
