//! The gRPC server of KEDA's external scaler, for TLS and plaintext on one port.
//!
//! What is answered is in `scaler/service.rs` and `scaler/specs.rs`; when a workload is woken in `scaler/push.rs`.

mod push;
mod service;
mod specs;

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use stillwake_proto::scaler::external_scaler_server::ExternalScalerServer;
use stillwake_runtime::{
    accept::accept,
    tls::{Acceptor, MaybeTls},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::Connected};

use self::service::Service;
use crate::{
    aggregator::Aggregator,
    shares::{Share, Shares},
};

/// A connection whose node died is noticed within this and [`KEEPALIVE_TIMEOUT`]; KEDA sends no pings itself.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// How long an answer to a ping may take.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Streams on one connection; KEDA uses a single connection for all `ScaledObject`s, two streams each.
const MAX_CONCURRENT_STREAMS: u32 = 16_384;

/// How long after `stop` a client may take to finish its calls.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Handshakes that are done and wait for the server to take them.
const ACCEPTED_QUEUE: usize = 16;

/// Serves until `stop` is cancelled and the calls in progress have ended, or took too long.
pub(crate) async fn serve(
    aggregator: &Aggregator,
    listener: TcpListener,
    acceptor: Acceptor,
    stop: CancellationToken,
) {
    let (accepted, incoming) = mpsc::channel(ACCEPTED_QUEUE);
    let settings = aggregator.settings();
    let accepting = tokio::spawn(accept_all(
        aggregator.clone(),
        listener,
        acceptor,
        accepted,
        stop.clone(),
    ));
    let service = ExternalScalerServer::new(Service::new(aggregator.clone(), stop.clone()));
    let served = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        // Tells clients to open what is next on another connection, and closes this one when its streams have ended, each with
        // OK at its own age. With a grace as well, tonic 0.14 tells nothing and cuts off what is open when both are over.
        .max_connection_age(settings.connection_age)
        .add_service(service)
        .serve_with_incoming_shutdown(
            ReceiverStream::new(incoming),
            stop.clone().cancelled_owned(),
        );
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(STOP_LIMIT).await;
    };
    tokio::select! {
        ended = served => {
            if let Err(error) = ended {
                tracing::error!(%error, "The gRPC server failed");
            }
        }
        () = overdue => tracing::warn!("Stopped although clients have not finished their calls"),
    }
    accepting.abort();
}

async fn accept_all(
    aggregator: Aggregator,
    listener: TcpListener,
    acceptor: Acceptor,
    accepted: mpsc::Sender<io::Result<ScalerConnection>>,
    stop: CancellationToken,
) {
    let settings = aggregator.settings();
    let shares = Shares::new(settings.max_scaler_connections_per_address);
    let places = Arc::new(Semaphore::new(settings.max_scaler_connections));
    loop {
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => return,
            connection = accept(&listener) => connection,
        };
        let Some(share) = shares.take(peer.ip()) else {
            refused(&aggregator, peer, "address", &"its address has too many");
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            refused(&aggregator, peer, "too_many", &"there are too many");
            continue;
        };
        let (aggregator, acceptor) = (aggregator.clone(), acceptor.clone());
        let (accepted, stop) = (accepted.clone(), stop.clone());
        // Aside, so that a slow handshake keeps nobody waiting; the acceptor bounds its time.
        tokio::spawn(async move {
            let handshake = tokio::select! {
                () = stop.cancelled() => return,
                handshake = acceptor.accept(stream) => handshake,
            };
            match handshake {
                Ok(io) => {
                    let connection = ScalerConnection {
                        io,
                        peer,
                        _share: share,
                        _place: place,
                    };
                    // Fails only when the server has stopped.
                    let _ = accepted.send(Ok(connection)).await;
                }
                // As a check whether the port is open does.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(error) => refused(&aggregator, peer, "handshake", &error),
            }
        });
    }
}

fn refused(
    aggregator: &Aggregator,
    peer: SocketAddr,
    reason: &'static str,
    error: &dyn fmt::Display,
) {
    aggregator.metrics().refused_scaler(reason);
    if aggregator.is_news(peer.ip(), "scaler", reason) {
        tracing::warn!(%peer, reason, %error, "Refused a gRPC connection; more like this are logged at debug");
    } else {
        tracing::debug!(%peer, reason, %error, "Refused a gRPC connection");
    }
}

/// A connection as tonic wants it, which gives its place back when it ends.
#[derive(Debug)]
struct ScalerConnection {
    io: MaybeTls,
    peer: SocketAddr,
    _share: Share,
    _place: OwnedSemaphorePermit,
}

impl Connected for ScalerConnection {
    type ConnectInfo = SocketAddr;

    fn connect_info(&self) -> SocketAddr {
        self.peer
    }
}

impl AsyncRead for ScalerConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for ScalerConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
