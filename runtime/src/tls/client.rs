//! The client's side of TLS: whom it trusts, and why a server is not trusted.
//!
//! Dials nothing, and never falls back to plaintext.

use std::{fmt, io, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, InvalidMessage, RootCertStore,
    client::Resumption,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{MaybeTls, provider};

/// Reasons why a text cannot be used as a bundle of authorities.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// There is none in it.
    #[error("there is no certificate in PEM form")]
    Empty,
    /// The text is damaged.
    #[error("certificate {number} is not PEM: {reason}")]
    NotPem {
        /// Which certificate, from 1.
        number: usize,
        /// What is wrong with it.
        reason: rustls::pki_types::pem::Error,
    },
    /// Something else than a certificate of an authority.
    #[error("certificate {number} can be nobody's authority: {reason}")]
    Unusable {
        /// Which certificate, from 1.
        number: usize,
        /// What is wrong with it.
        reason: rustls::Error,
    },
    /// The provider of cryptography knows no version of TLS.
    #[error("no version of TLS can be spoken: {0}")]
    Provider(#[source] rustls::Error),
}

/// Reasons why a connection was not secured. Each completes "no TLS connection, because …".
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name is of no server.
    #[error("no certificate can be made out for {0:?}")]
    Name(String),
    /// The certificate is not from any of the authorities.
    #[error("its certificate comes from no authority that is trusted here")]
    UnknownAuthority,
    /// What came back is no TLS.
    #[error("it does not speak TLS")]
    NotTls,
    /// Any other reason: the certificate's names or time, or the connection itself.
    #[error("{0}")]
    Handshake(#[source] io::Error),
}

/// The authorities whose servers a client talks to. Clones share them.
#[derive(Clone)]
pub struct Trust {
    roots: Arc<RootCertStore>,
    config: Arc<ClientConfig>,
}

impl Trust {
    /// Reads a bundle: PEM text with at least one certificate. What else is in it is skipped.
    ///
    /// # Errors
    ///
    /// Fails if there is no certificate, or one that cannot be used.
    pub fn from_pem(bundle: &str) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        for (index, certificate) in CertificateDer::pem_slice_iter(bundle.as_bytes()).enumerate() {
            let number = index + 1;
            let certificate =
                certificate.map_err(|reason| TrustError::NotPem { number, reason })?;
            roots
                .add(certificate)
                .map_err(|reason| TrustError::Unusable { number, reason })?;
        }
        if roots.is_empty() {
            return Err(TrustError::Empty);
        }
        let roots = Arc::new(roots);
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TrustError::Provider)?
            .with_root_certificates(Arc::clone(&roots))
            .with_no_client_auth();
        // Connections live long; remembering sessions would cost more memory than it ever saves work.
        config.resumption = Resumption::disabled();
        Ok(Self {
            roots,
            config: Arc::new(config),
        })
    }

    /// Secures `stream`, whose other end has to prove that it is `host`: a DNS name or an IP address.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the server or its certificate. Takes as long as the server does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn connect(&self, host: &str, stream: TcpStream) -> Result<MaybeTls, ConnectError> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| ConnectError::Name(host.to_owned()))?;
        let connecting = TlsConnector::from(Arc::clone(&self.config)).connect(name, stream);
        match connecting.await {
            Ok(stream) => Ok(MaybeTls::Tls(Box::new(stream.into()))),
            Err(error) => Err(reason(error)),
        }
    }
}

/// Puts into plain words what the library says by the names of its variants.
fn reason(error: io::Error) -> ConnectError {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            ConnectError::UnknownAuthority
        }
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            ConnectError::NotTls
        }
        _ => ConnectError::Handshake(error),
    }
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        self.roots.roots == other.roots.roots
    }
}

impl Eq for Trust {}

impl fmt::Debug for Trust {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Trust")
            .field("authorities", &self.roots.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
