//! The trusting side of TLS: a server that verifies its clients by a bundle which can be replaced.
//!
//! Says who issued the client's certificate, not what the client may do.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    pki_types::{CertificateDer, UnixTime},
    server::{
        VerifierBuilderError, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use stillwake_runtime::tls::provider;

use crate::trust::Bundle;

/// A bundle cannot be used to verify clients.
#[derive(Debug, thiserror::Error)]
pub enum VerifierError {
    /// One of its certificates is no trust anchor.
    #[error("the bundle holds a certificate that cannot be trusted")]
    Root(#[from] Error),
    /// The verifier cannot be made.
    #[error("the bundle cannot be used to verify clients")]
    Builder(#[from] VerifierBuilderError),
}

/// Demands a client certificate that leads to a bundle, and can be given another bundle at any time.
#[derive(Debug)]
pub struct ClientVerifier {
    verifier: ArcSwap<Arc<dyn ClientCertVerifier>>,
}

impl ClientVerifier {
    /// Trusts `bundle`.
    ///
    /// # Errors
    ///
    /// Fails if the bundle cannot be used.
    pub fn new(bundle: &Bundle) -> Result<Self, VerifierError> {
        Ok(Self {
            verifier: ArcSwap::from_pointee(verifier(bundle)?),
        })
    }

    /// Trusts `bundle`, and nothing else, from the next handshake on.
    ///
    /// # Errors
    ///
    /// Fails if the bundle cannot be used; the one before it stays.
    pub fn swap(&self, bundle: &Bundle) -> Result<(), VerifierError> {
        self.verifier.store(Arc::new(verifier(bundle)?));
        Ok(())
    }
}

fn verifier(bundle: &Bundle) -> Result<Arc<dyn ClientCertVerifier>, VerifierError> {
    let roots = Arc::new(bundle.roots()?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
    Ok(builder.build()?)
}

impl ClientCertVerifier for ClientVerifier {
    /// Names nobody, because a borrowed list cannot be swapped. Clients then send what they have.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verifier = self.verifier.load();
        verifier.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verifier = self.verifier.load();
        verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verifier = self.verifier.load();
        verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.load().supported_verify_schemes()
    }
}
