//! Two aggregators that a sidecar under test reports to: they take TLS as real ones do, and read what they are told.

use std::sync::Arc;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
use stillwake_runtime::tls::{Acceptor, server_config};
use tokio::{
    io::{AsyncRead, copy, sink},
    net::TcpListener,
    task::JoinSet,
};

/// Where they listen. A sidecar reports to every address that it is told.
const ADDRESSES: [&str; 2] = ["127.0.0.1", "127.0.0.2"];

/// They listen until dropped.
#[derive(Debug)]
pub struct Aggregators {
    /// Their addresses, separated by commas.
    pub names: String,
    /// Their certificate, in PEM form.
    pub certificate: String,
    _listening: JoinSet<()>,
}

impl Aggregators {
    /// Starts both.
    ///
    /// # Errors
    ///
    /// When there is no port for them.
    pub async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (certificate, key) = (folder.path().join("certificate"), folder.path().join("key"));
        let made_key = KeyPair::generate()?;
        let mut params = CertificateParams::new(ADDRESSES.map(str::to_owned))?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let made = params.self_signed(&made_key)?;
        std::fs::write(&certificate, made.pem())?;
        std::fs::write(&key, made_key.serialize_pem())?;
        let config = Arc::new(server_config(&certificate, &key)?);

        let mut names = Vec::new();
        let mut listening = JoinSet::new();
        for address in ADDRESSES {
            let listener = TcpListener::bind((address, 0)).await?;
            names.push(listener.local_addr()?.to_string());
            listening.spawn(listen(listener, Acceptor::tls(config.clone(), true)));
        }
        Ok(Self {
            names: names.join(","),
            certificate: made.pem(),
            _listening: listening,
        })
    }
}

async fn listen(listener: TcpListener, acceptor: Acceptor) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            // Whoever does not get through TLS is not our sidecar, or has ended.
            if let Ok(stream) = acceptor.accept(stream).await {
                read(stream).await;
            }
        });
    }
}

async fn read(mut stream: impl AsyncRead + Unpin) {
    // It ends with the sidecar.
    let _ = copy(&mut stream, &mut sink()).await;
}
