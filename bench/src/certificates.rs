//! A certificate for servers on loopback, which proves itself.

use std::{fs, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
use rustls::server::ResolvesServerCert;
use serde::{Deserialize, Serialize};
use stillwake_runtime::tls::{Acceptor, Trust, server_config};
use tempfile::TempDir;

/// The last addresses that it is for: `127.0.0.1` to `127.0.0.16`.
pub const ADDRESSES: u8 = 16;

/// Where the certificate and its key are, for servers and their clients.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
}

impl Certificate {
    /// Makes one, which is gone with the folder.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn make() -> anyhow::Result<(TempDir, Self)> {
        let folder = tempfile::tempdir()?;
        let made = Self {
            certificate: folder.path().join("certificate.pem"),
            key: folder.path().join("key.pem"),
        };
        let key = KeyPair::generate()?;
        let names = (1..=ADDRESSES).map(|last| format!("127.0.0.{last}"));
        let mut params = CertificateParams::new(names.collect::<Vec<_>>())?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        fs::write(&made.certificate, params.self_signed(&key)?.pem())?;
        fs::write(&made.key, key.serialize_pem())?;
        Ok((folder, made))
    }

    /// Takes connections as this server.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn acceptor(&self) -> anyhow::Result<Acceptor> {
        let config = server_config(&self.certificate, &self.key)?;
        Ok(Acceptor::tls(Arc::new(config), true))
    }

    /// Trusts this server.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn trust(&self) -> anyhow::Result<Trust> {
        let text = fs::read_to_string(&self.certificate).context("no certificate")?;
        Ok(Trust::from_pem(&text)?)
    }

    /// Shows it to whoever asks in a handshake.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn resolver(&self) -> anyhow::Result<Arc<dyn ResolvesServerCert>> {
        let config = server_config(&self.certificate, &self.key)?;
        Ok(config.cert_resolver)
    }
}
