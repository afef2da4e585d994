//! The product's webhook over TLS, or a bare server beside it that admits everything unread.

use std::net::{Ipv4Addr, SocketAddr};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::post,
};
use serde::{Deserialize, Serialize};
use stillwake_runtime::accept::bind;
use stillwake_webhook::server;
use tokio_util::sync::CancellationToken;

use super::conversation::Conversation;
use crate::{admissions::Admissions, certificates::Certificate};

/// What it is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// What it shows to the API server.
    pub certificate: Certificate,
    /// Whether it is to admit everything unread.
    pub is_bare: bool,
}

/// Serves until the input ends; says on which port.
///
/// # Errors
///
/// When a port cannot be had.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let router = if settings.is_bare {
        Router::new().route(server::PATH, post(admit_unread))
    } else {
        server::router(Admissions::read()?.admission())
    };
    let listener = bind("the API server", SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let port = listener.local_addr()?.port();
    let certificates = settings.certificate.resolver()?;
    tokio::spawn(server::serve(
        listener,
        certificates,
        router,
        CancellationToken::new(),
    ));
    Conversation::begin(&port)?.end().await
}

async fn admit_unread(body: Body) -> Response {
    match to_bytes(body, 4 << 20).await {
        Ok(_) => {
            let answer = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"705ab4f5-6393-11e8-b7cc-42010a800002","allowed":true}}"#;
            ([(header::CONTENT_TYPE, "application/json")], answer).into_response()
        }
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}
