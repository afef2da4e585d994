//! The server's side of TLS: presents the newest leaf in each new handshake.
//!
//! Connections that stand, and sessions that are resumed, keep what they were made with. Does not decide when a leaf is renewed.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use stillwake_runtime::tls::provider;

use crate::leaf::Leaf;

/// Presents one certificate to everybody, and can be given another at any time. Put it in an `Arc`.
#[derive(Debug)]
pub struct Resolver {
    presented: ArcSwap<CertifiedKey>,
}

impl Resolver {
    /// Presents `leaf`.
    ///
    /// # Errors
    ///
    /// Fails if its key is of an unknown kind.
    pub fn new(leaf: &Leaf) -> Result<Self, rustls::Error> {
        Ok(Self::presenting(certified(leaf)?))
    }

    /// Presents a certificate that was checked already.
    pub fn presenting(certified: CertifiedKey) -> Self {
        Self {
            presented: ArcSwap::from_pointee(certified),
        }
    }

    /// Presents `leaf` from the next handshake on.
    ///
    /// # Errors
    ///
    /// Fails if its key is of an unknown kind; what is presented stays.
    pub fn swap(&self, leaf: &Leaf) -> Result<(), rustls::Error> {
        self.present(certified(leaf)?);
        Ok(())
    }

    /// Presents a certificate that was checked already from the next handshake on.
    pub fn present(&self, certified: CertifiedKey) {
        self.presented.store(Arc::new(certified));
    }

    /// Returns what is presented.
    pub fn presented(&self) -> Arc<CertifiedKey> {
        self.presented.load_full()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.presented())
    }
}

fn certified(leaf: &Leaf) -> Result<CertifiedKey, rustls::Error> {
    CertifiedKey::from_der(leaf.chain().to_vec(), leaf.key(), &provider())
}
