//! One port for TLS and plaintext: the first byte of a connection tells which it is. The client's side is in [`Trust`].
//!
//! The only place that chooses a cryptography provider.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, TlsStream};

mod client;

pub use client::{ConnectError, Trust, TrustError};

/// First byte of a TLS record that carries a handshake (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 0x16;

/// How long a connection may take to show its first byte and to finish a handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Returns the provider of all cryptography in this process.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Reasons why a certificate or key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or is not PEM of the right kind.
    #[error("cannot read a {what} from {}: {source}", path.display())]
    File {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: rustls::pki_types::pem::Error,
    },
    /// The file holds no certificate.
    #[error("{} holds no certificate in PEM form", .0.display())]
    Empty(PathBuf),
    /// Certificate and key do not fit together or are of an unknown kind.
    #[error("certificate and key cannot be used")]
    Unusable(#[from] rustls::Error),
}

/// Reads a server's certificate chain and key (PEM files), for HTTP/2 over TLS 1.3, and 1.2 where the build has
/// that.
///
/// # Errors
///
/// Names the file that cannot be used.
pub fn server_config(certificates: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::File { what, path, source }
    };
    let chain = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(failed("certificate", certificates))?;
    if chain.is_empty() {
        return Err(TlsError::Empty(certificates.to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(failed("private key", key))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Takes connections as they come, in TLS or in plaintext.
#[derive(Clone)]
pub struct Acceptor {
    tls: Option<TlsAcceptor>,
    require_tls: bool,
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Acceptor")
            .field("tls", &self.tls.is_some())
            .field("require_tls", &self.require_tls)
            .finish()
    }
}

impl Acceptor {
    /// Takes plaintext only.
    pub fn plaintext() -> Self {
        Self {
            tls: None,
            require_tls: false,
        }
    }

    /// Takes TLS, and plaintext too unless `require_tls`.
    pub fn tls(config: Arc<ServerConfig>, require_tls: bool) -> Self {
        Self {
            tls: Some(TlsAcceptor::from(config)),
            require_tls,
        }
    }

    /// Looks at the first byte and completes the handshake if it begins one.
    ///
    /// # Errors
    ///
    /// Fails when the handshake fails or takes longer than 10 s, and when the connection is of a kind that is not taken;
    /// with [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) when the client closes before it has said anything.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<MaybeTls> {
        let refused = |why| Err(io::Error::new(io::ErrorKind::InvalidData, why));
        let established = async {
            let mut first = [0];
            if stream.peek(&mut first).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let begins_tls = first[0] == HANDSHAKE_RECORD;
            match (&self.tls, begins_tls) {
                (Some(acceptor), true) => Ok(MaybeTls::Tls(Box::new(
                    acceptor.accept(stream).await?.into(),
                ))),
                (None, true) => refused("TLS on a port without a certificate"),
                (_, false) if self.require_tls => refused("plaintext on a port that requires TLS"),
                (_, false) => Ok(MaybeTls::Plain(stream)),
            }
        };
        tokio::time::timeout(HANDSHAKE_LIMIT, established).await?
    }
}

/// A connection that may be encrypted.
#[derive(Debug)]
pub enum MaybeTls {
    /// As it came.
    Plain(TcpStream),
    /// After a handshake, on either side of it.
    Tls(Box<TlsStream<TcpStream>>),
}

impl MaybeTls {
    /// Returns the TCP connection underneath.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl AsyncRead for MaybeTls {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for MaybeTls {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests;
