//! The gRPC server of KEDA's external scaler, for TLS and plaintext on one port.
//!
//! What is answered is in `scaler/service.rs`; when a workload is woken in `scaler/push.rs`.

mod push;
mod service;

use std::{
    io,
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
use crate::aggregator::Aggregator;

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
        listener,
        acceptor,
        settings.max_scaler_connections,
        accepted,
        stop.clone(),
    ));
    let service = ExternalScalerServer::new(Service::new(aggregator.clone(), stop.clone()));
    let served = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .max_connection_age(settings.connection_age)
        // Streams end by themselves and with OK before this cuts them off.
        .max_connection_age_grace(*settings.stream_age.end() + STOP_LIMIT)
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
    listener: TcpListener,
    acceptor: Acceptor,
    most: usize,
    accepted: mpsc::Sender<io::Result<ScalerConnection>>,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(most));
    loop {
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => return,
            connection = accept(&listener) => connection,
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!(%peer, "Too many gRPC connections, refusing one");
            continue;
        };
        let (acceptor, accepted, stop) = (acceptor.clone(), accepted.clone(), stop.clone());
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
                        _place: place,
                    };
                    // Fails only when the server has stopped.
                    let _ = accepted.send(Ok(connection)).await;
                }
                Err(error) => tracing::debug!(%peer, %error, "A gRPC connection failed to begin"),
            }
        });
    }
}

/// A connection as tonic wants it, which gives its place back when it ends.
#[derive(Debug)]
struct ScalerConnection {
    io: MaybeTls,
    peer: SocketAddr,
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
