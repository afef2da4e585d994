//! The admin port of every process: `/live`, `/ready`, `/metrics` and `/debug/state`.
//!
//! Never carries users' traffic, and changes nothing in the process. By hyper alone: the sidecar has these pages as well, and
//! what a router adds to it would be in memory beside every replica of every app.

use std::{convert::Infallible, fmt, pin::pin, sync::Arc};

use hyper::{
    Method, Response, StatusCode,
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use prometheus_client::{encoding::text, registry::Registry};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{accept, readiness::Readiness};

/// Media type of `/live` and `/ready`, and of what went wrong.
const TEXT: &str = "text/plain; charset=utf-8";

/// Media type of `/metrics`.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Media type of `/debug/state`.
const JSON: &str = "application/json";

/// What the admin port shows.
#[derive(Clone)]
pub struct Admin {
    readiness: Readiness,
    registry: Arc<Registry>,
    state: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Admin")
            .field("readiness", &self.readiness)
            .finish_non_exhaustive()
    }
}

impl Admin {
    /// Creates the pages; `state` is asked at each request for `/debug/state` and should not block.
    pub fn new(
        readiness: Readiness,
        registry: Registry,
        state: impl Fn() -> serde_json::Value + Send + Sync + 'static,
    ) -> Self {
        Self {
            readiness,
            registry: Arc::new(registry),
            state: Arc::new(state),
        }
    }

    /// Serves the pages until `stop` is cancelled, and then until the requests that have begun are answered.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let connections = TaskTracker::new();
        while let Some((stream, _)) = stop.run_until_cancelled(accept::accept(&listener)).await {
            connections.spawn(self.clone().connection(stream, stop.clone()));
        }
        drop(listener);
        connections.close();
        connections.wait().await;
    }

    async fn connection(self, stream: TcpStream, stop: CancellationToken) {
        let answers = service_fn(async |request: hyper::Request<_>| {
            Ok::<_, Infallible>(self.answer(request.method(), request.uri().path()))
        });
        let served = http1::Builder::new().serve_connection(TokioIo::new(stream), answers);
        let mut served = pin!(served);
        let ended = tokio::select! {
            ended = &mut served => ended,
            () = stop.cancelled() => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "A connection to the admin port broke off");
        }
    }

    fn answer(&self, method: &Method, path: &str) -> Response<String> {
        let page: fn(&Self) -> _ = match path {
            "/live" => |_| full(StatusCode::OK, TEXT, "live\n".to_owned()),
            "/ready" => Self::ready,
            "/metrics" => Self::metrics,
            "/debug/state" => Self::state,
            _ => return empty(StatusCode::NOT_FOUND),
        };
        if *method != Method::GET && *method != Method::HEAD {
            let mut refused = empty(StatusCode::METHOD_NOT_ALLOWED);
            let allowed = HeaderValue::from_static("GET,HEAD");
            refused.headers_mut().insert(header::ALLOW, allowed);
            return refused;
        }
        page(self)
    }

    fn ready(&self) -> Response<String> {
        if self.readiness.is_ready() {
            full(StatusCode::OK, TEXT, "ready\n".to_owned())
        } else {
            full(
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                "not ready\n".to_owned(),
            )
        }
    }

    fn metrics(&self) -> Response<String> {
        let mut page = String::new();
        match text::encode(&mut page, &self.registry) {
            Ok(()) => full(StatusCode::OK, OPEN_METRICS, page),
            Err(error) => full(StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.to_string()),
        }
    }

    fn state(&self) -> Response<String> {
        // Laid out for the people who read it with curl.
        full(StatusCode::OK, JSON, format!("{:#}\n", (self.state)()))
    }
}

fn full(status: StatusCode, media_type: &'static str, page: String) -> Response<String> {
    let mut answer = Response::new(page);
    *answer.status_mut() = status;
    let media_type = HeaderValue::from_static(media_type);
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, media_type);
    answer
}

fn empty(status: StatusCode) -> Response<String> {
    let mut answer = Response::default();
    *answer.status_mut() = status;
    answer
}

#[cfg(test)]
mod tests;
