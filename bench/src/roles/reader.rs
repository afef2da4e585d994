//! The control of the aggregator: takes the same reporters' connections over TLS, and throws away what they say.
//!
//! What it uses is what sockets and TLS take; nobody can collect reports over them for less.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use stillwake_runtime::{accept, tls::Acceptor};
use tokio::{
    io::{copy, sink},
    net::TcpStream,
};

use super::conversation::Conversation;
use crate::certificates::Certificate;

/// What it is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// What it shows to reporters.
    pub certificate: Certificate,
}

/// Listens until the input ends; says on which port.
///
/// # Errors
///
/// When there is no port.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let acceptor = settings.certificate.acceptor()?;
    let listener = accept::bind("reporters", SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = accept::accept(&listener).await;
            tokio::spawn(read(stream, acceptor.clone()));
        }
    });
    Conversation::begin(&port)?.end().await
}

async fn read(stream: TcpStream, acceptor: Acceptor) {
    if let Ok(mut stream) = acceptor.accept(stream).await {
        // It ends with the reporter.
        let _ = copy(&mut stream, &mut sink()).await;
    }
}
