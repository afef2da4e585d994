//! A rustls server from the two sides that can be swapped.
//!
//! Listens nowhere.

use std::sync::Arc;

use rustls::{
    ServerConfig,
    server::{NoServerSessionStorage, danger::ClientCertVerifier},
};
use stillwake_runtime::tls::{Acceptor, provider};

use crate::{resolver::Resolver, verifier::ClientVerifier};

/// Returns a server that presents what `resolver` does and speaks `protocols` (ALPN, the preferred first). With `clients`,
/// each client must prove who it is.
///
/// # Errors
///
/// Fails only if the provider knows none of the TLS versions.
pub fn server_config(
    resolver: Arc<Resolver>,
    clients: Option<Arc<ClientVerifier>>,
    protocols: &[&[u8]],
) -> Result<ServerConfig, rustls::Error> {
    let builder =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let mut config = match clients {
        None => builder.with_no_client_auth().with_cert_resolver(resolver),
        Some(clients) => {
            let clients: Arc<dyn ClientCertVerifier> = clients;
            let mut config = builder
                .with_client_cert_verifier(clients)
                .with_cert_resolver(resolver);
            // A resumed session isn't verified again, so a client whose authority was dropped would keep coming in.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            config
        }
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// Returns what takes a port's connections: TLS as [`server_config`] has it, and plaintext too unless `require_tls`. With
/// `clients` plaintext is never taken, because nobody proves anything in it.
///
/// # Errors
///
/// Fails only if the provider knows none of the TLS versions.
pub fn acceptor(
    resolver: Arc<Resolver>,
    clients: Option<Arc<ClientVerifier>>,
    protocols: &[&[u8]],
    require_tls: bool,
) -> Result<Acceptor, rustls::Error> {
    let require_tls = require_tls || clients.is_some();
    let config = server_config(resolver, clients, protocols)?;
    Ok(Acceptor::tls(Arc::new(config), require_tls))
}

#[cfg(test)]
mod tests;
