//! The admin port of every process: `/live`, `/ready`, `/metrics` and `/debug/state`.
//!
//! Never carries users' traffic, and changes nothing in the process.

use std::{fmt, io, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{encoding::text, registry::Registry};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::readiness::Readiness;

/// Media type of `/metrics`.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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

    /// Serves the pages until `stop` is cancelled.
    ///
    /// # Errors
    ///
    /// Fails if the listener does.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
        let pages = Router::new()
            .route("/live", get(async || "live\n"))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics))
            .route("/debug/state", get(state))
            .with_state(self);
        axum::serve(listener, pages)
            .with_graceful_shutdown(stop.cancelled_owned())
            .await
    }
}

async fn ready(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    if admin.readiness.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let mut page = String::new();
    match text::encode(&mut page, &admin.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn state(State(admin): State<Admin>) -> Response {
    // Laid out for the people who read it with curl.
    let page = format!("{:#}\n", (admin.state)());
    ([(header::CONTENT_TYPE, "application/json")], page).into_response()
}

#[cfg(test)]
mod tests;
