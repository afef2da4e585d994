//! Takes admissions over TLS: `POST /inject`, and `POST /inject?timeout=…` as the API server writes it.
//!
//! Bounded in bytes, time and connections. What the answer is, is for `admission`.

use std::{io, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::{ServerConfig, server::ResolvesServerCert};
use stillwake_runtime::{
    accept,
    tls::{Acceptor, provider},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::admission::Admission;

/// Where admissions are posted to.
pub const PATH: &str = "/inject";

/// Longest request. The API server takes objects of 3 MiB at most, and wraps a pod in a few hundred bytes.
const LONGEST: usize = 4 << 20;

/// How long a request may take to arrive. The API server gives up on us after less.
const ARRIVAL: Duration = Duration::from_secs(5);

/// How long a connection may be silent between two requests, or within a head. Longer than an API server keeps idle
/// connections (90 s), so that it is never the one surprised.
const SILENCE: Duration = Duration::from_mins(2);

/// How many connections there may be; each API server keeps a few. More wait until others end.
const CONNECTIONS: usize = 256;

/// Returns the routes.
pub fn router(admission: Admission) -> Router {
    Router::new()
        .route(PATH, post(answer))
        .with_state(admission)
}

async fn answer(State(admission): State<Admission>, body: Body) -> Response {
    let refuse = |status, class, why: String| {
        admission.unanswerable(class);
        tracing::warn!(why, "A request of the API server cannot be read");
        (status, why).into_response()
    };
    let body = match timeout(ARRIVAL, to_bytes(body, LONGEST)).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => {
            let why = format!("the request broke off or is longer than {LONGEST} bytes: {error}");
            return refuse(StatusCode::PAYLOAD_TOO_LARGE, "request_broken", why);
        }
        Err(_) => {
            let why = format!("the request did not arrive within {ARRIVAL:?}");
            return refuse(StatusCode::REQUEST_TIMEOUT, "request_late", why);
        }
    };
    match admission.answer(&body) {
        Ok(answer) => ([(header::CONTENT_TYPE, "application/json")], answer).into_response(),
        Err(error) => refuse(
            StatusCode::BAD_REQUEST,
            "request_unreadable",
            error.to_string(),
        ),
    }
}

/// Serves `router` over TLS until `stop` is cancelled, and then until the requests that have begun are answered.
///
/// `certificates` is asked at each handshake, so that a renewed certificate needs no restart.
///
/// # Errors
///
/// Fails if TLS cannot be set up.
pub async fn serve(
    listener: TcpListener,
    certificates: Arc<dyn ResolvesServerCert>,
    router: Router,
    stop: CancellationToken,
) -> io::Result<()> {
    let acceptor = acceptor(certificates).map_err(io::Error::other)?;
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let next = async || {
        let place = Arc::clone(&places).acquire_owned().await;
        (accept::accept(&listener).await, place)
    };
    while let Some(((stream, peer), place)) = stop.run_until_cancelled(next()).await {
        let (acceptor, router, stop) = (acceptor.clone(), router.clone(), stop.clone());
        connections.spawn(async move {
            if let Err(error) = connection(stream, acceptor, router, stop).await {
                tracing::debug!(%peer, %error, "A connection broke off");
            }
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    Ok(())
}

fn acceptor(certificates: Arc<dyn ResolvesServerCert>) -> Result<Acceptor, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Acceptor::tls(Arc::new(config), true))
}

async fn connection(
    stream: TcpStream,
    acceptor: Acceptor,
    router: Router,
    stop: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let Some(stream) = stop.run_until_cancelled(acceptor.accept(stream)).await else {
        return Ok(());
    };
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SILENCE)
        .serve_connection(TokioIo::new(stream?), TowerToHyperService::new(router));
    let mut served = std::pin::pin!(served);
    tokio::select! {
        ended = &mut served => return Ok(ended?),
        () = stop.cancelled() => served.as_mut().graceful_shutdown(),
    }
    Ok(served.await?)
}

#[cfg(test)]
mod tests;
