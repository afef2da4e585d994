//! One replica's leaf from the shared state to the handshake: what every server of the control plane does alike.
//!
//! Neither reads nor changes the shared state; `keeper` and `follower` do.

use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::RwLock;

use crate::{
    authorities::Authorities,
    authority::SigningError,
    certificate::CertificateError,
    leaf::LeafRequest,
    replica::Replica,
    resolver::Resolver,
    rotation::{Settings, SettingsError},
    store::StoreError,
};

/// Reasons why a replica cannot take its turn. What is served stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// The settings leave gaps.
    #[error("the certificates' settings do not fit together")]
    Settings(#[from] SettingsError),
    /// The shared state, the lease or a published copy cannot be read or written.
    #[error("cannot keep the shared certificates up to date")]
    Store(#[from] StoreError),
    /// A certificate cannot be made.
    #[error("cannot make a certificate")]
    Signing(#[from] SigningError),
    /// The bundle cannot be read.
    #[error("cannot read the shared certificates")]
    Certificate(#[from] CertificateError),
    /// The leaf cannot be served.
    #[error("cannot serve a new certificate")]
    Tls(#[from] rustls::Error),
    /// The view got too old while it was read.
    #[error("reading the shared certificates took longer than they may be acted on")]
    TooSlow,
    /// There are no shared authorities yet, and it is not this replica's part to make them.
    #[error("there are no shared certificates yet; the webhook makes them when it starts")]
    Absent,
}

/// A leaf that follows the shared state, and what presents it.
#[derive(Debug)]
pub(crate) struct Presenter {
    replica: Arc<RwLock<Replica>>,
    resolver: Arc<Resolver>,
}

impl Presenter {
    /// Makes the first leaf from a state whose reading began at `asked`.
    pub(crate) fn begin(
        settings: &Settings,
        request: LeafRequest,
        authorities: Arc<Authorities>,
        asked: Timestamp,
        clock: &impl Fn() -> Timestamp,
    ) -> Result<Self, TurnError> {
        let mut replica = Replica::new(settings.clone(), request, rand::random());
        replica.confirm(authorities, asked)?;
        let leaf = replica.renew(clock())?.ok_or(TurnError::TooSlow)?;
        Ok(Self {
            resolver: Arc::new(Resolver::new(&leaf)?),
            replica: Arc::new(RwLock::new(replica)),
        })
    }

    /// Takes a state whose reading began at `asked`. Returns whether a new leaf is served from now on.
    pub(crate) fn take(
        &self,
        authorities: Arc<Authorities>,
        asked: Timestamp,
        clock: &impl Fn() -> Timestamp,
    ) -> Result<bool, TurnError> {
        let mut replica = self.replica.write();
        replica.confirm(authorities, asked)?;
        let renewed = replica.renew(clock())?;
        if let Some(leaf) = &renewed {
            self.resolver.swap(leaf)?;
            tracing::info!(
                issuer = %leaf.issuer(),
                expires = %leaf.validity().not_after,
                "Renewed the certificate"
            );
        }
        Ok(renewed.is_some())
    }

    pub(crate) fn resolver(&self) -> &Arc<Resolver> {
        &self.resolver
    }

    pub(crate) fn replica(&self) -> &Arc<RwLock<Replica>> {
        &self.replica
    }
}
